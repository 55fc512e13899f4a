/** Bounds on time: a signal that is aborted later, and waits that end. */

import { abortable, cancelledError } from './abortable.ts';
import type { Clock } from './clock.ts';
import { DiskliftError } from './errors.ts';

export interface TimeLimit {
  /** Aborted with `expired` when the time is up. */
  signal: AbortSignal;
  /** Stops the time; `signal` is not aborted any more. */
  stop(): void;
}

export interface TimeLimitOptions {
  clock: Clock;
  limitMs: number;
  expired: DiskliftError;
  /** The time begins when this signal is aborted. Default: now. */
  after?: AbortSignal | undefined;
}

export function startTimeLimit({ clock, limitMs, expired, after }: TimeLimitOptions): TimeLimit {
  const [late, stopped] = [new AbortController(), new AbortController()];
  const begin = () => {
    clock.delay(limitMs, stopped.signal).then(
      () => late.abort(expired),
      () => {},
    );
  };
  if (after === undefined || after.aborted) begin();
  else after.addEventListener('abort', begin, { once: true, signal: stopped.signal });
  return { signal: late.signal, stop: () => stopped.abort(inTime()) };
}

export interface WaitLimit {
  limitMs: number;
  clock: Clock;
  signal: AbortSignal;
  /** Gives the error of a wait that took too long. */
  late(): DiskliftError;
}

/**
 * Waits for `promise`, but not longer than the limit. A promise that hangs is left behind.
 * @throws DiskliftError `late` after the limit; the reason of the signal's abort, at once; the failure of `promise`
 */
export async function withinLimit<T>(promise: Promise<T>, { limitMs, clock, signal, late }: WaitLimit): Promise<T> {
  const stop = new AbortController();
  const timeout = clock.delay(limitMs, stop.signal).then(() => {
    throw late();
  });
  try {
    return await abortable(Promise.race([promise, timeout]), signal);
  } finally {
    stop.abort(inTime());
  }
}

/**
 * Waits for `promise` while something moves: at most `limitMs` of silence.
 * @param movedMs the monotonic time of the last move
 * @throws DiskliftError as {@link withinLimit}
 */
export async function whileMoving<T>(promise: Promise<T>, movedMs: () => number, { limitMs, clock, signal, late }: WaitLimit): Promise<T> {
  const stop = new AbortController();
  const silence = async (): Promise<never> => {
    for (let leftMs = limitMs; leftMs > 0; leftMs = movedMs() + limitMs - clock.monotonicMs()) await clock.delay(leftMs, stop.signal);
    throw late();
  };
  try {
    return await abortable(Promise.race([promise, silence()]), signal);
  } finally {
    stop.abort(inTime());
  }
}

export interface Grace {
  /** The operation itself must stop on the same signal. */
  signal: AbortSignal;
  clock: Clock;
  /** Time for the operation to stop, from the abort on. */
  graceMs: number;
}

/**
 * Waits for an operation that ends soon after an abort unless a call beneath it hangs: after the abort at most
 * `graceMs` more. The outcome after that is ignored.
 * @throws the failure of `operation`; the signal's reason (DiskliftError) when the grace period has passed
 */
export async function settleWithin<T>(operation: Promise<T>, { signal, clock, graceMs }: Grace): Promise<T> {
  const expired = new DiskliftError('Cancelled', `did not stop within ${graceMs} ms`);
  const limit = startTimeLimit({ clock, limitMs: graceMs, expired, after: signal });
  try {
    return await abortable(operation, limit.signal);
  } catch (error) {
    throw error === expired ? cancelledError(signal) : error;
  } finally {
    limit.stop();
  }
}

function inTime(): DiskliftError {
  return new DiskliftError('Cancelled', 'in time');
}
