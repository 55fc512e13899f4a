/** A queue of keys: a key waits once, however often it was added, and two workers never have the same key. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { DelayedKeys } from './delayed-keys.ts';
import { WaitingKeys } from './waiting-keys.ts';

export interface WorkQueue {
  add(key: string): void;
  /** Adds the key after a delay. The earliest of several delays counts. */
  addAfter(key: string, delayMs: number): void;
  /**
   * Yields the keys of one namespace in the order in which they were added, and those of several namespaces in turns.
   * Urgent keys take every second turn. The caller works on a key until it takes the next one. A key that is added
   * meanwhile is yielded again after that. Ends when `signal` is aborted.
   */
  take(signal: AbortSignal): AsyncGenerator<string>;
}

/** Keys that need no call would otherwise occupy the event loop until the last one is done. */
const TURN_MS = 10;

/**
 * @param signal ends the delays of `addAfter`
 * @param isUrgent asked whenever the key is added
 */
export function createWorkQueue(clock: Clock, signal: AbortSignal, isUrgent: (key: string) => boolean = () => false): WorkQueue {
  const waiting = new WaitingKeys();
  const working = new Set<string>();
  const again = new Set<string>();
  const delayed = new DelayedKeys();
  /** The timer of the key that is due next. */
  let timer: { dueMs: number; stop: AbortController } | undefined;
  let turnMs = clock.monotonicMs();
  /** Ends the wait of each caller of `take` that has no key to work on. */
  const wakes = new Set<() => void>();

  function add(key: string): void {
    if (working.has(key)) again.add(key);
    else waiting.add(key, isUrgent(key));
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

  function setTimer(): void {
    const dueMs = delayed.nextDueMs();
    if (dueMs === undefined || (timer !== undefined && timer.dueMs <= dueMs)) return;
    timer?.stop.abort(new DiskliftError('Cancelled', 'another key is due earlier'));
    timer = { dueMs, stop: new AbortController() };
    void addWhenDue(timer);
  }

  async function addWhenDue(own: { dueMs: number; stop: AbortController }): Promise<void> {
    try {
      await clock.delay(own.dueMs - clock.monotonicMs(), AbortSignal.any([signal, own.stop.signal]));
    } catch {
      return;
    }
    timer = undefined;
    // A timer may be a fraction of a millisecond early.
    const nowMs = Math.max(own.dueMs, clock.monotonicMs());
    for (let key = delayed.takeDue(nowMs); key !== undefined; key = delayed.takeDue(nowMs)) add(key);
    setTimer();
  }

  /** Gives timers and sockets their turn. */
  async function yieldTurn(): Promise<void> {
    if (clock.monotonicMs() - turnMs < TURN_MS) return;
    await nextTurn();
    turnMs = clock.monotonicMs();
  }

  return {
    add,
    addAfter(key, delayMs) {
      if (signal.aborted) return;
      delayed.add(key, clock.monotonicMs() + delayMs);
      setTimer();
    },
    async *take(ended) {
      while (!ended.aborted) {
        const key = waiting.take();
        if (key === undefined) {
          await untilAdded(ended);
          continue;
        }
        working.add(key);
        try {
          yield key;
        } finally {
          finish(key);
        }
        await yieldTurn();
      }
    },
  };
}
