/** A budget of bytes that all transfers of the process share: first come, first served. */

import { abortable, throwIfAborted } from './abortable.ts';

export interface ByteBudget {
  /**
   * Waits until so many bytes are free. More than the whole budget are given when nothing else is taken.
   * @returns gives them back; calls after the first do nothing
   * @throws DiskliftError `Cancelled` when `signal` is aborted
   */
  acquire(sizeBytes: number, signal: AbortSignal): Promise<() => void>;
  /** Whether somebody waits: then what is held only for the sake of speed should be given back. */
  isWanted(): boolean;
}

export function createByteBudget(totalBytes: number): ByteBudget {
  let freeBytes = totalBytes;
  const waiting: { sizeBytes: number; grant(): void }[] = [];

  function grantAll(): void {
    for (let next = waiting[0]; next !== undefined && next.sizeBytes <= freeBytes; next = waiting[0]) {
      waiting.shift();
      freeBytes -= next.sizeBytes;
      next.grant();
    }
  }

  return {
    async acquire(wantedBytes, signal) {
      throwIfAborted(signal);
      const sizeBytes = Math.min(wantedBytes, totalBytes);
      const { promise, resolve } = Promise.withResolvers<void>();
      const request = { sizeBytes, grant: resolve };
      waiting.push(request);
      grantAll();
      let isHeld = true;
      const giveBack = () => {
        if (!isHeld) return;
        isHeld = false;
        freeBytes += sizeBytes;
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
    isWanted: () => waiting.length > 0,
  };
}
