/** The large buffers of the whole process, within one budget of bytes. */

import { alignUp, MIB } from './bytes.ts';
import { allocateIoBuffer } from './io-buffer.ts';
import { createLimiter } from './limiter.ts';

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
  const budget = createLimiter(totalBytes);
  let takenBytes = 0;
  /** Nobody has them. */
  let idle: Buffer[] = [];
  /** Nobody has any other either: the garbage collector may have these. */
  let collectable: WeakRef<Buffer>[] = [];

  /** @returns gives it back, with a buffer that others may have */
  async function hold(sizeBytes: number, signal: AbortSignal): Promise<(buffer?: Buffer) => void> {
    const release = await budget.acquire(sizeBytes, { signal });
    takenBytes += sizeBytes;
    idle.push(...collectable.flatMap((reference) => reference.deref() ?? []));
    collectable = [];
    let isHeld = true;
    return (buffer) => {
      if (!isHeld) return;
      isHeld = false;
      takenBytes -= sizeBytes;
      if (buffer !== undefined) idle.push(buffer);
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
      const giveBack = await hold(capacityBytes, signal);
      const at = idle.findIndex(({ length }) => length === capacityBytes);
      const [buffer = allocateIoBuffer(capacityBytes)] = at < 0 ? [] : idle.splice(at, 1);
      dropWhatIsTooMuch();
      return { bytes: buffer.subarray(0, sizeBytes), giveBack: (isUsable) => giveBack(isUsable ? buffer : undefined) };
    },
    async reserve(sizeBytes, signal) {
      const giveBack = await hold(sizeBytes, signal);
      dropWhatIsTooMuch();
      return () => giveBack();
    },
  };
}
