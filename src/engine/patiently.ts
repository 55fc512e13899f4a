/** Repeats calls while a store of requests does not answer. */

import { abortable, throwIfAborted } from '../common/abortable.ts';
import { type Backoff, backoffDelayMs } from '../common/backoff.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';

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
 * Repeats the call until it succeeds. Waits longer after each failure, and at least as long as the store requires (Retry-After).
 * @throws a failure that is not retryable, or the last one; the signal's reason (DiskliftError)
 */
export async function patiently<T>(call: () => Promise<T>, patience: Patience): Promise<T> {
  const { clock, random, signal, patienceMs = Number.POSITIVE_INFINITY, isToBeRetried, onFailure } = patience;
  const startMs = clock.monotonicMs();
  for (let failedAttempts = 1; ; failedAttempts += 1) {
    try {
      return await abortable(call(), signal);
    } catch (error) {
      throwIfAborted(signal);
      const retryAfterMs = error instanceof DiskliftError ? error.retryAfterMs : undefined;
      const delayMs = backoffDelayMs(BACKOFF, { failedAttempts, retryAfterMs }, random);
      if (!isToBeRetried(error) || clock.monotonicMs() + delayMs - startMs > patienceMs) throw error;
      onFailure(error);
      await clock.delay(delayMs, signal);
    }
  }
}
