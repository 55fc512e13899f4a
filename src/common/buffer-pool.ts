/** The large buffers of the whole process, within one budget of bytes. */

import { createBudget } from './budget.ts';
import { alignUp, MIB } from './bytes.ts';
import { allocateIoBuffer } from './io-buffer.ts';

export interface PooledBuffer {
  /** As long as was wanted, with arbitrary content. */
  bytes: Buffer;
  /**
   * Calls after the first do nothing.
   * @param isUsable false when something may still use the bytes: then nobody else is given them
   */
  giveBack(isUsable: boolean): void;
}

export interface BufferPool {
  /**
   * Waits, first come first served, until the budget has room.
   * @throws DiskliftError `Cancelled` when `signal` is aborted
   */
  take(sizeBytes: number, signal: AbortSignal): Promise<PooledBuffer>;
  /**
   * The same for memory that its user allocates.
   * @returns gives it back; calls after the first do nothing
   */
  reserve(sizeBytes: number, signal: AbortSignal): Promise<() => void>;
}

/** Buffers of about one size can stand in for one another. */
const GRANULE_BYTES = 4 * MIB;

/**
 * Buffers are used again, however many transfers take turns: what is dropped at the speed of transfers is not collected at that speed,
 * and the process would hold many times its budget.
 * @param totalBytes of all buffers; who wants more than that gets it when nothing else is taken
 */
export function createBufferPool(totalBytes: number): BufferPool {
  const budget = createBudget(totalBytes);
  let takenBytes = 0;
  /** Nobody has them. */
  let idle: Buffer[] = [];
  /** Nobody has any other either: the garbage collector may have these. */
  let collectable: WeakRef<Buffer>[] = [];

  async function reserve(sizeBytes: number, signal: AbortSignal): Promise<() => void> {
    const release = await budget.acquire(sizeBytes, signal);
    takenBytes += sizeBytes;
    idle.push(...collectable.flatMap((reference) => reference.deref() ?? []));
    collectable = [];
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      takenBytes -= sizeBytes;
      if (takenBytes === 0) {
        collectable = idle.map((buffer) => new WeakRef(buffer));
        idle = [];
      }
      release();
    };
  }

  function dropWhatIsTooMuch(): void {
    let heldBytes = idle.reduce((sum, { length }) => sum + length, takenBytes);
    while (idle.length > 0 && heldBytes > totalBytes) heldBytes -= idle.shift()?.length ?? 0;
  }

  return {
    async take(sizeBytes, signal) {
      const capacityBytes = alignUp(sizeBytes, GRANULE_BYTES);
      const release = await reserve(capacityBytes, signal);
      const at = idle.findIndex(({ length }) => length === capacityBytes);
      const [buffer = allocateIoBuffer(capacityBytes)] = at < 0 ? [] : idle.splice(at, 1);
      dropWhatIsTooMuch();
      let isHeld = true;
      return {
        bytes: buffer.subarray(0, sizeBytes),
        giveBack(isUsable) {
          if (isHeld && isUsable) idle.push(buffer);
          isHeld = false;
          release();
        },
      };
    },
    async reserve(sizeBytes, signal) {
      const release = await reserve(sizeBytes, signal);
      dropWhatIsTooMuch();
      return release;
    },
  };
}
