/** Bounds operations that end soon after an abort unless a call beneath them hangs. */

import { abortable, cancelledError } from './abortable.ts';
import type { Clock } from './clock.ts';
import { DiskliftError } from './errors.ts';
import { startTimeLimitAfter } from './time-limit.ts';

export interface Grace {
  /** The operation itself must stop on the same signal. */
  signal: AbortSignal;
  clock: Clock;
  /** Time for the operation to stop, from the abort on. */
  graceMs: number;
}

/**
 * Waits for `operation`; after an abort at most `graceMs` more, then its outcome is ignored.
 * @throws the failure of `operation`; the signal's reason (DiskliftError) when the grace period has passed
 */
export async function settleWithin<T>(operation: Promise<T>, { signal, clock, graceMs }: Grace): Promise<T> {
  const expired = new DiskliftError('Cancelled', `did not stop within ${graceMs} ms`);
  const limit = startTimeLimitAfter(signal, { clock, limitMs: graceMs, expired });
  try {
    return await abortable(operation, limit.signal);
  } catch (error) {
    throw error === expired ? cancelledError(signal) : error;
  } finally {
    limit.stop();
  }
}
