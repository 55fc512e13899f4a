/** A clock that stands still, and advances at once by each delay that the code waits for. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../src/common/abortable.ts';
import type { Clock } from '../../src/common/clock.ts';

export interface TestClock extends Clock {
  /** The delays waited for, in order. */
  readonly delaysMs: number[];
}

export function createTestClock(): TestClock {
  const delaysMs: number[] = [];
  let timeMs = Date.UTC(2026, 0, 1);
  return {
    delaysMs,
    nowMs: () => timeMs,
    monotonicMs: () => timeMs,
    async delay(delayMs, signal) {
      throwIfAborted(signal);
      delaysMs.push(delayMs);
      timeMs += delayMs;
      await nextTurn();
    },
  };
}
