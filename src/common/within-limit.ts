/** Waiting, but not for ever, and not past a cancel. */

import { abortable } from './abortable.ts';
import type { Clock } from './clock.ts';
import { DiskliftError } from './errors.ts';

export interface WaitLimit {
  limitMs: number;
  clock: Clock;
  signal: AbortSignal;
  /** The error of a wait that took too long. */
  late(): DiskliftError;
}

/** @throws DiskliftError `late` when `promise` takes too long, `Cancelled` at once; a promise that hangs is left behind */
export async function withinLimit<T>(promise: Promise<T>, { limitMs, clock, signal, late }: WaitLimit): Promise<T> {
  const stop = new AbortController();
  const timeout = clock.delay(limitMs, stop.signal).then(() => {
    throw late();
  });
  try {
    return await abortable(Promise.race([promise, timeout]), signal);
  } finally {
    stop.abort(new DiskliftError('Cancelled', 'in time'));
  }
}
