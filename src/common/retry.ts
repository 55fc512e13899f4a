/** Repeats what has failed: the loop, its waits, and Retry-After. */

import { abortable, throwIfAborted } from './abortable.ts';
import type { Clock } from './clock.ts';
import { DiskliftError } from './errors.ts';

export interface RetryOptions {
  /**
   * Whether another try may succeed. Tries can be counted here: up to a number, or anew after progress.
   * @param failedAttempts number of tries that have failed: 1 and more
   */
  isRetryable(error: unknown, failedAttempts: number): boolean;
  backoff: Backoff;
  clock: Pick<Clock, 'monotonicMs' | 'delay'>;
  /** Gives numbers from 0 up to, and not with, 1. */
  random(): number;
  /**
   * Ends the loop and its waits. The loop does not abandon a running task; wrap a task that may be abandoned in
   * `abortable`.
   */
  signal: AbortSignal;
  /** No try begins later than this after the first one. Default: no limit. */
  limitMs?: number | undefined;
  /** Upper bound of every wait, even where the peer requires a longer one. Default: no limit. */
  maxDelayMs?: number | undefined;
  /** Called before each wait. */
  onRetry?: ((error: unknown, failedAttempts: number) => void) | undefined;
}

/**
 * Repeats `task` until it succeeds. Waits longer after each failure, and at least as long as the peer requires
 * (Retry-After).
 * @throws a failure that is not retryable, or the last one; the reason of the signal's abort (DiskliftError)
 */
export async function retry<T>(task: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { isRetryable, backoff, clock, random, signal, onRetry } = options;
  const { limitMs = Number.POSITIVE_INFINITY, maxDelayMs = Number.POSITIVE_INFINITY } = options;
  const startMs = clock.monotonicMs();
  for (let failedAttempts = 1; ; failedAttempts += 1) {
    try {
      return await task();
    } catch (error) {
      throwIfAborted(signal);
      if (!isRetryable(error, failedAttempts)) throw error;
      const retryAfterMs = error instanceof DiskliftError ? error.retryAfterMs : undefined;
      const delayMs = Math.min(maxDelayMs, backoffDelayMs(backoff, { failedAttempts, retryAfterMs }, random));
      if (clock.monotonicMs() + delayMs - startMs > limitMs) throw error;
      onRetry?.(error, failedAttempts);
      await clock.delay(delayMs, signal);
    }
  }
}

const STORE_BACKOFF: Backoff = { baseMs: 500, capMs: 10_000 };

/**
 * As {@link retry}, for a call of a store of requests that may not answer: `signal` ends a running call as well as the
 * waits.
 */
export function retryStoreCall<T>(call: () => Promise<T>, options: Omit<RetryOptions, 'backoff'>): Promise<T> {
  return retry(() => abortable(call(), options.signal), { ...options, backoff: STORE_BACKOFF });
}

/** Waits that grow exponentially, with full jitter, so that processes that failed together do not return together. */
export interface Backoff {
  /** Upper bound of the first wait. */
  baseMs: number;
  /** Upper bound of every wait, except where the peer requires a longer one. */
  capMs: number;
  /** Each failure multiplies the upper bound by this. Default 2. */
  factor?: number;
  /**
   * The lower bound of each wait is the upper bound of the wait before it. Thus a number of waits covers a known time.
   */
  isIncreasing?: boolean;
}

export interface Failure {
  /** Number of attempts that have failed in a row: 1 and more. */
  failedAttempts: number;
  /** Shortest wait that the peer requires (Retry-After). */
  retryAfterMs?: number | undefined;
}

/**
 * @param random gives numbers from 0 up to, and not with, 1
 * @returns milliseconds between the bounds of {@link Backoff}, and never less than the peer requires
 */
export function backoffDelayMs(backoff: Backoff, { failedAttempts, retryAfterMs = 0 }: Failure, random: () => number): number {
  const [minMs, maxMs] = [lowerBoundMs(backoff, failedAttempts), upperBoundMs(backoff, failedAttempts)];
  return Math.max(retryAfterMs, Math.floor(minMs + random() * (maxMs - minMs)));
}

function lowerBoundMs(backoff: Backoff, failedAttempts: number): number {
  return backoff.isIncreasing && failedAttempts > 1 ? upperBoundMs(backoff, failedAttempts - 1) : 0;
}

function upperBoundMs({ baseMs, capMs, factor = 2 }: Backoff, failedAttempts: number): number {
  return Math.min(capMs, baseMs * factor ** (failedAttempts - 1));
}

/** Longest wait that a peer can require. A server that is busy for longer gets another request meanwhile. */
export const MAX_RETRY_AFTER_MS = 15 * 60_000;

/**
 * Parses Retry-After (RFC 9110, section 10.2.3): seconds, or a date.
 * @returns milliseconds from `nowMs` on, 0 for a date that has passed, or undefined for anything else
 */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, MAX_RETRY_AFTER_MS);
  // Date.parse takes nearly anything; a date of HTTP begins with the name of a day.
  const dateMs = /^[A-Z][a-z]{2,8}, ?/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.min(Math.max(0, dateMs - nowMs), MAX_RETRY_AFTER_MS);
}
