/** A clock that stands still until the test advances it. */

import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { cancelledError, throwIfAborted } from '../../src/common/abortable.ts';
import type { Clock } from '../../src/common/clock.ts';

interface Waiter {
  endMs: number;
  delayMs: number;
  wake(): void;
}

export interface ManualClock extends Clock {
  /** Advances the time, and wakes waiters whose time has come, in order. */
  advance(delayMs: number): Promise<void>;
  /** Sets the wall clock forward by that many milliseconds, as NTP does. Durations are not affected. */
  setWallClock(forwardMs: number): void;
  /** Whether a waiter with exactly this delay exists. */
  isAwaited(delayMs: number): boolean;
  /** Waits, in real time, until a waiter with exactly this delay exists. */
  untilWaiting(delayMs: number): Promise<void>;
}

const LIMIT_MS = 10_000;

export function createManualClock(): ManualClock {
  let startMs = Date.UTC(2026, 0, 1);
  let timeMs = 0;
  const waiting = new Set<Waiter>();

  async function advance(delayMs: number): Promise<void> {
    const endMs = timeMs + delayMs;
    for (;;) {
      const [next] = [...waiting].filter((waiter) => waiter.endMs <= endMs).sort((a, b) => a.endMs - b.endMs);
      if (next === undefined) break;
      timeMs = Math.max(timeMs, next.endMs);
      waiting.delete(next);
      next.wake();
      await nextTurn();
    }
    timeMs = endMs;
  }

  const isAwaited = (delayMs: number) => [...waiting].some((waiter) => waiter.delayMs === delayMs);

  return {
    nowMs: () => startMs + timeMs,
    monotonicMs: () => timeMs,
    delay(delayMs, signal) {
      return new Promise((resolve, reject) => {
        throwIfAborted(signal);
        if (delayMs <= 0) return resolve();
        const onAbort = () => {
          waiting.delete(waiter);
          reject(cancelledError(signal));
        };
        const wake = () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        };
        const waiter = { endMs: timeMs + delayMs, delayMs, wake };
        waiting.add(waiter);
        signal.addEventListener('abort', onAbort, { once: true });
      });
    },
    advance,
    setWallClock(forwardMs) {
      startMs += forwardMs;
    },
    isAwaited,
    async untilWaiting(delayMs) {
      const endMs = performance.now() + LIMIT_MS;
      while (!isAwaited(delayMs)) {
        assert.ok(performance.now() < endMs, `nobody waits for ${delayMs} ms but for ${[...waiting].map((waiter) => waiter.delayMs)}`);
        await nextTurn();
      }
    },
  };
}
