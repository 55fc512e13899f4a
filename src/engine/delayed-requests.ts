/** Delays of requests: pauses after a failure of the store, and actions that are due later. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../common/retry.ts';

export interface PausesOptions {
  clock: Clock;
  random(): number;
  /** Ends all pauses. */
  signal: AbortSignal;
  /** Called when a pause is over. */
  onOver(key: string): void;
}

interface Pause {
  isUrgent: boolean;
  stop: AbortController;
}

const BACKOFF: Backoff = { baseMs: 1000, capMs: 60_000 };

/**
 * A paused request is not started when its store reports a change, because the failed run's own status write is such a
 * change. A request that is cancelled or deleted starts at once, and is paused again if it fails.
 */
export class Pauses {
  private readonly options: PausesOptions;
  private readonly failures = new Map<string, number>();
  private readonly pauses = new Map<string, Pause>();
  private readonly urgent = new Set<string>();

  constructor(options: PausesOptions) {
    this.options = options;
  }

  /** Pauses longer after each failure in a row, and at least as long as the store requires (Retry-After). */
  begin(key: string, failure: unknown): void {
    const { clock, random, signal, onOver } = this.options;
    const failedAttempts = (this.failures.get(key) ?? 0) + 1;
    this.failures.set(key, failedAttempts);
    this.pauses.get(key)?.stop.abort(new DiskliftError('Cancelled', 'there is a longer pause'));
    const pause = { isUrgent: this.urgent.has(key), stop: new AbortController() };
    this.pauses.set(key, pause);
    const retryAfterMs = failure instanceof DiskliftError ? failure.retryAfterMs : undefined;
    clock.delay(backoffDelayMs(BACKOFF, { failedAttempts, retryAfterMs }, random), AbortSignal.any([signal, pause.stop.signal])).then(
      () => {
        this.pauses.delete(key);
        onOver(key);
      },
      () => {},
    );
  }

  /** @param isUrgent true when the request is cancelled or being deleted */
  isPaused(key: string, isUrgent: boolean): boolean {
    if (isUrgent) this.urgent.add(key);
    const pause = this.pauses.get(key);
    return pause !== undefined && (pause.isUrgent || !isUrgent);
  }

  /** Call this when the request has succeeded or is gone. */
  forget(key: string): void {
    this.failures.delete(key);
    this.urgent.delete(key);
  }
}

export interface KeyedTimers {
  /** Calls `act` after the delay, unless the process ends first. Does nothing while the key has a timer. */
  start(key: string, delayMs: number, act: () => Promise<void>): void;
}

export interface KeyedTimersOptions {
  clock: Clock;
  signal: AbortSignal;
  /** Receives the error of `act`. */
  onError(key: string, error: unknown): void;
}

export function createKeyedTimers({ clock, signal, onError }: KeyedTimersOptions): KeyedTimers {
  const waiting = new Set<string>();

  async function run(key: string, delayMs: number, act: () => Promise<void>): Promise<void> {
    try {
      await clock.delay(Math.max(0, delayMs), signal);
      waiting.delete(key);
      await act();
    } catch (error) {
      if (!signal.aborted) onError(key, error);
    }
  }

  return {
    start(key, delayMs, act) {
      if (waiting.has(key)) return;
      waiting.add(key);
      void run(key, delayMs, act);
    },
  };
}
