/** Time as a parameter, so that tests can use a clock of their own. */

import { setTimeout as delay } from 'node:timers/promises';
import { throwIfAborted } from './abortable.ts';

export interface Clock {
  /** Milliseconds since the Unix epoch, for timestamps. */
  nowMs(): number;
  /** Milliseconds since some moment; never runs backwards. For durations. */
  monotonicMs(): number;
  /** Waits. @throws DiskliftError `Cancelled`, or what `signal` was aborted with, at once */
  delay(delayMs: number, signal: AbortSignal): Promise<void>;
}

/** 24.8 days. Node's timers expire at once when they are set to more. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  async delay(delayMs, signal) {
    const endMs = performance.now() + delayMs;
    try {
      for (let leftMs = delayMs; leftMs > 0; leftMs = endMs - performance.now())
        await delay(Math.min(leftMs, MAX_TIMER_MS), undefined, { signal });
    } catch (error) {
      throwIfAborted(signal);
      throw error;
    }
  },
};

/** A time as Kubernetes writes it: RFC 3339 in whole seconds. @param timeMs since the Unix epoch */
export function timestamp(timeMs: number): string {
  return new Date(timeMs).toISOString().replace(/\.\d+Z$/, 'Z');
}
