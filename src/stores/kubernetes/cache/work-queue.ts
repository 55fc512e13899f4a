/** A queue of keys: a key waits once, however often it was added, and two workers never have the same key. */

import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';

export interface WorkQueue {
  add(key: string): void;
  /** Adds the key after a delay. The earliest of several delays counts. */
  addAfter(key: string, delayMs: number): void;
  /**
   * Yields the keys in the order in which they were added. The caller works on a key until it takes the next one. A key
   * that is added meanwhile is yielded again after that. Ends when `signal` is aborted.
   */
  take(signal: AbortSignal): AsyncGenerator<string>;
}

interface Timer {
  dueMs: number;
  stop: AbortController;
}

/** @param signal ends the delays of `addAfter` */
export function createWorkQueue(clock: Clock, signal: AbortSignal): WorkQueue {
  /** In the order of insertion. */
  const waiting = new Set<string>();
  const working = new Set<string>();
  const again = new Set<string>();
  const timers = new Map<string, Timer>();
  /** Ends the wait of each caller of `take` that has no key to work on. */
  const wakes = new Set<() => void>();

  function add(key: string): void {
    if (working.has(key)) again.add(key);
    else waiting.add(key);
    for (const wake of wakes) wake();
  }

  /** Both `add` and the abort resolve one deferred. Promise.race would leave a reaction on `ended` at each wake-up. */
  async function untilAdded(ended: AbortSignal): Promise<void> {
    const { promise, resolve: wake } = Promise.withResolvers<void>();
    wakes.add(wake);
    ended.addEventListener('abort', wake as () => void);
    await promise;
    wakes.delete(wake);
    ended.removeEventListener('abort', wake as () => void);
  }

  function finish(key: string): void {
    working.delete(key);
    if (again.delete(key)) add(key);
  }

  async function addWhenDue(key: string, timer: Timer, delayMs: number): Promise<void> {
    try {
      await clock.delay(delayMs, AbortSignal.any([signal, timer.stop.signal]));
    } catch {
      return;
    }
    timers.delete(key);
    add(key);
  }

  return {
    add,
    addAfter(key, delayMs) {
      if (signal.aborted) return;
      const dueMs = clock.monotonicMs() + delayMs;
      const known = timers.get(key);
      if (known !== undefined && known.dueMs <= dueMs) return;
      known?.stop.abort(new DiskliftError('Cancelled', 'it is due earlier'));
      const timer = { dueMs, stop: new AbortController() };
      timers.set(key, timer);
      void addWhenDue(key, timer, delayMs);
    },
    async *take(ended) {
      while (!ended.aborted) {
        const [key] = waiting;
        if (key === undefined) {
          await untilAdded(ended);
          continue;
        }
        waiting.delete(key);
        working.add(key);
        try {
          yield key;
        } finally {
          finish(key);
        }
      }
    },
  };
}
