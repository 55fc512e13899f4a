/** A budget that the whole process shares, of bytes or of places: first come, first served. */

import { abortable, throwIfAborted } from './abortable.ts';

export interface Budget {
  /**
   * Waits until so much is free. Who wants more than there is gets all of it, when nothing else is taken.
   * @returns gives them back; calls after the first do nothing
   * @throws DiskliftError `Cancelled` when `signal` is aborted
   */
  acquire(amount: number, signal: AbortSignal): Promise<() => void>;
}

export function createBudget(total: number): Budget {
  let free = total;
  const waiting: { amount: number; grant(): void }[] = [];

  function grantAll(): void {
    for (let next = waiting[0]; next !== undefined && next.amount <= free; next = waiting[0]) {
      waiting.shift();
      free -= next.amount;
      next.grant();
    }
  }

  return {
    async acquire(wanted, signal) {
      throwIfAborted(signal);
      const amount = Math.min(wanted, total);
      const { promise, resolve } = Promise.withResolvers<void>();
      const request = { amount, grant: resolve };
      waiting.push(request);
      grantAll();
      let isHeld = true;
      const giveBack = () => {
        if (!isHeld) return;
        isHeld = false;
        free += amount;
        grantAll();
      };
      try {
        await abortable(promise, signal);
      } catch (error) {
        const place = waiting.indexOf(request);
        if (place >= 0) waiting.splice(place, 1);
        else giveBack();
        grantAll();
        throw error;
      }
      return giveBack;
    },
  };
}
