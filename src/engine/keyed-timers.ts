/** What is to be done for a request after a while, once for each. */

import type { Clock } from '../common/clock.ts';

export interface KeyedTimers {
  /** @param act is not called when the process ends before; nothing is started while there is a timer for the key */
  start(key: string, delayMs: number, act: () => Promise<void>): void;
}

export interface KeyedTimersOptions {
  clock: Clock;
  signal: AbortSignal;
  /** What `act` has thrown. */
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
