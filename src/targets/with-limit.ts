/** Bounded waits for a peer. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { withinLimit } from '../common/time-limit.ts';

export interface Limit {
  limitMs: number;
  /** Beginning of the error's line: the peer, and what did not happen. */
  message: string;
  clock: Clock;
  signal: AbortSignal;
}

/**
 * @throws DiskliftError `DestinationUnreachable` when `promise` takes too long, `Cancelled` at once; a promise that
 * hangs is left behind
 */
export function withLimit<T>(promise: Promise<T>, { message, ...limit }: Limit): Promise<T> {
  const late = () => new DiskliftError('DestinationUnreachable', `${message} (waited ${Math.round(limit.limitMs / 1000)} s)`);
  return withinLimit(promise, { ...limit, late });
}
