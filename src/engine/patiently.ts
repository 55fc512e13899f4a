/** Repeats calls while a store of requests does not answer. */

import { abortable } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { type Backoff, retry } from '../common/retry.ts';

export interface Patience {
  clock: Clock;
  random(): number;
  /** Ends the call and the waits at once. */
  signal: AbortSignal;
  /** Time after the first call in which calls are repeated. No limit when left out. */
  patienceMs?: number | undefined;
  isToBeRetried(error: unknown): boolean;
  /** Called before each wait. */
  onFailure(error: unknown): void;
}

const BACKOFF: Backoff = { baseMs: 500, capMs: 10_000 };

/**
 * Repeats the call until it succeeds. Waits longer after each failure, and at least as long as the store requires
 * (Retry-After).
 * @throws a failure that is not retryable, or the last one; the signal's reason (DiskliftError)
 */
export function patiently<T>(call: () => Promise<T>, patience: Patience): Promise<T> {
  const { patienceMs, isToBeRetried, onFailure, ...options } = patience;
  return retry(() => abortable(call(), options.signal), {
    ...options,
    backoff: BACKOFF,
    limitMs: patienceMs,
    isRetryable: isToBeRetried,
    onRetry: onFailure,
  });
}
