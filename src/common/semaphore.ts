/** A counting semaphore: first come, first served. */

export interface Semaphore {
  /** Runs `task` once a permit is free and gives the permit back when the task has ended, however it ends. */
  run<T>(task: () => Promise<T>): Promise<T>;
}

/** @param permits how many tasks may run at once; at least 1. */
export function createSemaphore(permits: number): Semaphore {
  let free = permits;
  const waiting: (() => void)[] = [];

  return {
    async run<T>(task: () => Promise<T>): Promise<T> {
      if (free > 0) free -= 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await task();
      } finally {
        const next = waiting.shift();
        if (next === undefined) free += 1;
        else next();
      }
    },
  };
}
