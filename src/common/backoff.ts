/** How long to wait before the next attempt: exponential, with full jitter, so that many who failed together do not return together. */

export interface Backoff {
  /** The most that the first wait can take. */
  baseMs: number;
  /** No wait is longer, but for one that the peer has asked for. */
  capMs: number;
}

export interface Failure {
  /** How many attempts have failed in a row: 1 and more. */
  failedAttempts: number;
  /** What the peer has asked for (Retry-After). */
  retryAfterMs?: number | undefined;
}

/**
 * @param random gives numbers from 0 up to, and not with, 1
 * @returns milliseconds: anything up to `baseMs` doubled with each failure, and never less than the peer has asked for
 */
export function backoffDelayMs({ baseMs, capMs }: Backoff, { failedAttempts, retryAfterMs = 0 }: Failure, random: () => number): number {
  const ceilingMs = Math.min(capMs, baseMs * 2 ** (failedAttempts - 1));
  return Math.max(retryAfterMs, Math.floor(random() * ceilingMs));
}
