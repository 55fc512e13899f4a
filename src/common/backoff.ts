/** How long to wait before the next attempt: exponential, with full jitter, so that many who failed together do not return together. */

export interface Backoff {
  /** The most that the first wait can take. */
  baseMs: number;
  /** No wait is longer, but for one that the peer has asked for. */
  capMs: number;
  /** By which the most that a wait can take grows with each failure. Default 2. */
  factor?: number;
  /** Each wait takes at least the most that the wait before it could take. Thus a number of waits covers a known time. */
  isIncreasing?: boolean;
}

export interface Failure {
  /** How many attempts have failed in a row: 1 and more. */
  failedAttempts: number;
  /** What the peer has asked for (Retry-After). */
  retryAfterMs?: number | undefined;
}

/**
 * @param random gives numbers from 0 up to, and not with, 1
 * @returns milliseconds: anything up to `baseMs` multiplied with each failure, and never less than the peer has asked for
 */
export function backoffDelayMs(backoff: Backoff, { failedAttempts, retryAfterMs = 0 }: Failure, random: () => number): number {
  const [leastMs, mostMs] = [leastDelayMs(backoff, failedAttempts), ceilingMs(backoff, failedAttempts)];
  return Math.max(retryAfterMs, Math.floor(leastMs + random() * (mostMs - leastMs)));
}

/** @returns the time that `waits` waits take at least, in milliseconds */
export function coveredMs(backoff: Backoff, waits: number): number {
  let sumMs = 0;
  for (let wait = 1; wait <= waits; wait += 1) sumMs += leastDelayMs(backoff, wait);
  return sumMs;
}

function leastDelayMs(backoff: Backoff, failedAttempts: number): number {
  return backoff.isIncreasing && failedAttempts > 1 ? ceilingMs(backoff, failedAttempts - 1) : 0;
}

function ceilingMs({ baseMs, capMs, factor = 2 }: Backoff, failedAttempts: number): number {
  return Math.min(capMs, baseMs * factor ** (failedAttempts - 1));
}
