/** Buffers for reads: their memory, and the pool of the whole process within one budget of bytes. */

import { alignUp, MIB } from './bytes.ts';
import { createLimiter } from './limiter.ts';

export interface PooledBuffer {
  /** Has the requested length, and arbitrary content. */
  bytes: Buffer;
  /**
   * Calls after the first do nothing.
   * @param isUsable false when something may still use the bytes; then the pool hands them out no more
   */
  giveBack(isUsable: boolean): void;
}

export interface BufferPool {
  /**
   * Waits until the budget has room. Requests get their buffers in the order of their calls.
   * @throws DiskliftError `Cancelled` when `signal` is aborted
   */
  take(sizeBytes: number, signal: AbortSignal): Promise<PooledBuffer>;
  /**
   * Reserves room for memory that the caller allocates.
   * @returns a function that gives it back; calls after the first do nothing
   */
  reserve(sizeBytes: number, signal: AbortSignal): Promise<() => void>;
}

/** Sizes are rounded up to this, so that buffers of about one size can be used for one another. */
const GRANULE_BYTES = 4 * MIB;

/**
 * Buffers are used again. The garbage collector is slower than transfers that drop their buffers, so
 * without reuse the process would hold many times its budget.
 * @param totalBytes budget of all buffers; a larger request is granted when nothing else is taken
 */
export function createBufferPool(totalBytes: number): BufferPool {
  const budget = createLimiter(totalBytes);
  let takenBytes = 0;
  /** Buffers that no caller has. */
  let idle: Buffer[] = [];
  /** Idle buffers while no caller has any: the garbage collector may take these. */
  let collectable: WeakRef<Buffer>[] = [];

  /** @returns a function that gives it back, with a buffer for later callers */
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

  function dropSurplus(): void {
    let heldBytes = idle.reduce((sum, { length }) => sum + length, takenBytes);
    while (idle.length > 0 && heldBytes > totalBytes) heldBytes -= idle.shift()?.length ?? 0;
  }

  return {
    async take(sizeBytes, signal) {
      const capacityBytes = alignUp(sizeBytes, GRANULE_BYTES);
      const giveBack = await hold(capacityBytes, signal);
      const at = idle.findIndex(({ length }) => length === capacityBytes);
      const [buffer = allocateIoBuffer(capacityBytes)] = at < 0 ? [] : idle.splice(at, 1);
      dropSurplus();
      return { bytes: buffer.subarray(0, sizeBytes), giveBack: (isUsable) => giveBack(isUsable ? buffer : undefined) };
    },
    async reserve(sizeBytes, signal) {
      const giveBack = await hold(sizeBytes, signal);
      dropSurplus();
      return () => giveBack();
    },
  };
}

/**
 * A large allocation of the C library begins 16 bytes behind the start of a page. On current x86 processors, copying
 * pages to there takes twice as long as copying to other 16-byte boundaries. Each store seems to overlap the load
 * behind it (docs/decisions/0002-read-buffers.md). The buffer therefore begins at the next cache line.
 */
const HEAD_BYTES = 48;

/** A buffer for file pages that the kernel copies: arbitrary content, and memory of its own (not of Node's pool). */
export function allocateIoBuffer(sizeBytes: number): Buffer {
  return Buffer.allocUnsafeSlow(HEAD_BYTES + sizeBytes).subarray(HEAD_BYTES);
}
