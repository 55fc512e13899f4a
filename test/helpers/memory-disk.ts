/** A disk in memory that a test can change between two reads, which it could not do with a file. */

import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { abortable, throwIfAborted } from '../../src/common/abortable.ts';
import type { DiskSource, SourceExtent } from '../../src/sources/contract.ts';

export interface MemoryDisk {
  source: DiskSource;
  /** Its current content. */
  bytes: Buffer;
  /** Reads that have ended, and their bytes. */
  readCount: number;
  readBytes: number;
  /** Called and awaited before a read copies its bytes, with the number of earlier reads. */
  onRead?: ((readsBefore: number, signal: AbortSignal) => void | Promise<void>) | undefined;
}

/** A disk like a block device, which has no times; but with holes, where `bytes` must stay zeros. */
export function createMemoryDisk(bytes: Buffer, extents: readonly SourceExtent[]): MemoryDisk {
  const disk: MemoryDisk = {
    bytes,
    readCount: 0,
    readBytes: 0,
    source: {
      name: 'memory',
      sizeBytes: bytes.length,
      identityMissesWrites: true,
      async *extents() {
        yield* extents;
      },
      async read(buffer, offset, signal) {
        throwIfAborted(signal);
        assert.ok(
          offset >= 0 && offset + buffer.length <= bytes.length,
          `bytes ${offset} to ${offset + buffer.length} are not on the disk`,
        );
        await nextTurn();
        await abortable(Promise.resolve(disk.onRead?.(disk.readCount, signal)), signal);
        disk.readCount += 1;
        disk.readBytes += buffer.length;
        throwIfAborted(signal);
        buffer.set(bytes.subarray(offset, offset + buffer.length));
      },
      identity: async () => ({ size: `${bytes.length}` }),
      dispose: async () => {},
    },
  };
  return disk;
}
