/** Calls of a store that is away for a while. */

import { abortable, throwIfAborted } from '../common/abortable.ts';
import { type Backoff, backoffDelayMs } from '../common/backoff.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';

export interface Patience {
  clock: Clock;
  random(): number;
  /** Ends the call and the waits at once. */
  signal: AbortSignal;
  /** No call is made later than this after the first. For ever when left out. */
  patienceMs?: number | undefined;
  isToBeRetried(error: unknown): boolean;
  /** Called before each wait. */
  onFailure(error: unknown): void;
}

const BACKOFF: Backoff = { baseMs: 500, capMs: 10_000 };

/**
 * Makes the call until it succeeds, and waits longer after each failure, never less than the store has asked for (Retry-After).
 * @throws the failure that is not to be retried, or the last one; DiskliftError what `signal` was aborted with
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
