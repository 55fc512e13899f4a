/** The buffers that the parts of one image are read into, within the budget of the whole process. */

import { abortable } from '../../common/abortable.ts';
import type { Budget } from '../../common/budget.ts';
import { allocateIoBuffer } from '../../common/io-buffer.ts';

interface PartBuffer {
  bytes: Buffer;
  release(): void;
}

export interface PartBuffers {
  /** Waits for a buffer. One caller at a time. @throws DiskliftError `Cancelled` */
  take(): Promise<PartBuffer>;
  /** @param isUsable false when something may still write to it */
  giveBack(buffer: PartBuffer, isUsable: boolean): void;
  /** Buffers that are still taken are released when they come back. */
  dispose(): void;
}

interface PartBuffersOptions {
  budget: Budget;
  sizeBytes: number;
  most: number;
  signal: AbortSignal;
}

export function createPartBuffers({ budget, sizeBytes, most, signal }: PartBuffersOptions): PartBuffers {
  const idle: PartBuffer[] = [];
  let made = 0;
  let isDisposed = false;
  let wake = () => {};

  return {
    async take() {
      for (;;) {
        const buffer = idle.pop();
        if (buffer !== undefined) return buffer;
        if (made < most) {
          const release = await budget.acquire(sizeBytes, signal);
          made += 1;
          return { bytes: allocateIoBuffer(sizeBytes), release };
        }
        await abortable(new Promise<void>((resolve) => (wake = resolve)), signal);
      }
    },
    giveBack(buffer, isUsable) {
      // To keep it while others wait would leave them without until this image has been sent; and while this one waits, for ever.
      if (isDisposed || !isUsable || budget.isWanted()) {
        buffer.release();
        made -= 1;
      } else idle.push(buffer);
      wake();
    },
    dispose() {
      isDisposed = true;
      for (const { release } of idle.splice(0)) release();
    },
  };
}
