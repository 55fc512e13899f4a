/** Waiting for a peer: not for ever, and not past a cancel. */

import { abortable } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';

export interface Limit {
  limitMs: number;
  /** Where, and what did not happen: the beginning of the error's line. */
  message: string;
  clock: Clock;
  signal: AbortSignal;
}

/** @throws DiskliftError `DestinationUnreachable` when `promise` takes too long, `Cancelled` at once; a promise that hangs is left behind */
export async function withLimit<T>(promise: Promise<T>, { limitMs, message, clock, signal }: Limit): Promise<T> {
  const stop = new AbortController();
  const late = clock.delay(limitMs, stop.signal).then(() => {
    throw new DiskliftError('DestinationUnreachable', `${message} (waited ${Math.round(limitMs / 1000)} s)`);
  });
  try {
    return await abortable(Promise.race([promise, late]), signal);
  } finally {
    stop.abort(new DiskliftError('Cancelled', 'in time'));
  }
}
