/** How long a key of a work queue waits after failures in a row. Pure, but for the random numbers. */

import { type Backoff, backoffDelayMs } from '../../../common/retry.ts';

export class FailureDelays {
  private readonly failures = new Map<string, number>();
  private readonly backoff: Backoff;
  private readonly random: () => number;

  constructor(backoff: Backoff, random: () => number) {
    this.backoff = backoff;
    this.random = random;
  }

  /** Counts a failure. @returns milliseconds, and at least `retryAfterMs` */
  next(key: string, retryAfterMs: number | undefined): number {
    const failedAttempts = (this.failures.get(key) ?? 0) + 1;
    this.failures.set(key, failedAttempts);
    return backoffDelayMs(this.backoff, { failedAttempts, retryAfterMs }, this.random);
  }

  /** Call this after a success. */
  forget(key: string): void {
    this.failures.delete(key);
  }
}
