/** Bounds what runs or is taken at a time: tasks, bytes, slots. */

import { abortable, throwIfAborted } from './abortable.ts';

interface LimiterWait {
  /** Requests of a higher priority come first; those of one priority in the order of their calls. Default 0. */
  priority?: number | undefined;
  /** Ends the wait. */
  signal?: AbortSignal | undefined;
}

export interface Limiter {
  /**
   * Waits until `amount` is free. A request above the capacity gets all of it when nothing else is taken.
   * @returns a function that gives the amount back; calls after the first do nothing
   * @throws DiskliftError the reason of the signal's abort; nothing is taken then
   */
  acquire(amount?: number, wait?: LimiterWait): Promise<() => void>;
  /**
   * Runs `task` when 1 is free, at once if it is free now, and gives it back when the task ends.
   * @throws the failure of `task`; otherwise as `acquire`
   */
  run<T>(task: () => Promise<T>, wait?: LimiterWait): Promise<T>;
}

interface Request {
  amount: number;
  priority: number;
  grant(): void;
}

/** @param capacity 1 and more */
export function createLimiter(capacity: number): Limiter {
  let free = capacity;
  /** In the order in which they are granted. */
  const waiting: Request[] = [];

  function grantWaiting(): void {
    for (let next = waiting[0]; next !== undefined && next.amount <= free; next = waiting[0]) {
      waiting.shift();
      free -= next.amount;
      next.grant();
    }
  }

  function releaseOnce(amount: number): () => void {
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      free += amount;
      grantWaiting();
    };
  }

  /** @returns undefined when the request has to wait */
  function takeNow(amount: number, priority: number): (() => void) | undefined {
    const isFirst = waiting[0] === undefined || waiting[0].priority < priority;
    if (!isFirst || amount > free) return undefined;
    free -= amount;
    return releaseOnce(amount);
  }

  async function takeInTurn(amount: number, priority: number, signal: AbortSignal | undefined): Promise<() => void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const request = { amount, priority, grant: resolve };
    const index = waiting.findIndex((other) => other.priority < priority);
    waiting.splice(index < 0 ? waiting.length : index, 0, request);
    const release = releaseOnce(amount);
    try {
      await (signal === undefined ? promise : abortable(promise, signal));
    } catch (error) {
      const at = waiting.indexOf(request);
      // The signal may be aborted right after the grant.
      if (at < 0) release();
      else waiting.splice(at, 1);
      grantWaiting();
      throw error;
    }
    return release;
  }

  return {
    async acquire(wanted = 1, { priority = 0, signal } = {}) {
      if (signal !== undefined) throwIfAborted(signal);
      const amount = Math.min(wanted, capacity);
      return takeNow(amount, priority) ?? (await takeInTurn(amount, priority, signal));
    },
    async run(task, { priority = 0, signal } = {}) {
      if (signal !== undefined) throwIfAborted(signal);
      const release = takeNow(1, priority) ?? (await takeInTurn(1, priority, signal));
      try {
        return await task();
      } finally {
        release();
      }
    },
  };
}

/**
 * Runs independent tasks, at most `limit` at a time, with the outcome of a sequential loop. Starts no task after a
 * failure, and settles when the running tasks have ended.
 * @returns the results, in the order of `items`
 * @throws the failure of the failed item that comes first in `items`
 */
export async function mapConcurrently<T, R>(
  items: readonly T[],
  limit: number,
  task: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array(items.length);
  const failures: { index: number; error: unknown }[] = [];
  let next = 0;
  const lane = async () => {
    while (next < items.length && failures.length === 0) {
      const index = next;
      next += 1;
      try {
        results[index] = await task(items[index] as T, index);
      } catch (error) {
        failures.push({ index, error });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  const [first] = failures.toSorted((a, b) => a.index - b.index);
  if (first !== undefined) throw first.error;
  return results;
}
