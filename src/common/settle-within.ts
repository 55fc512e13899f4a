/** Operations that end by themselves after an abort, as long as nothing beneath them hangs. */

import { abortable, cancelledError } from './abortable.ts';
import type { Clock } from './clock.ts';
import { DiskliftError } from './errors.ts';
import { startTimeLimitAfter } from './time-limit.ts';

export interface Grace {
  /** The operation is told to stop by the same signal. */
  signal: AbortSignal;
  clock: Clock;
  /** How long the operation has to stop, from the abort on. */
  graceMs: number;
}

/**
 * Waits for `operation`, and after an abort at most `graceMs` more; then the operation is left behind.
 * @throws what `operation` throws; DiskliftError what `signal` was aborted with, when the grace period has passed
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
