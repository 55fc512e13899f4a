/** A disk that lies raw in a regular file. */

import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Semaphore } from '../common/semaphore.ts';
import { createCachedReader } from '../native/cached-read.ts';
import type { Libc } from '../native/libc.ts';
import type { DiskSource, SourceIdentity } from './contract.ts';
import { dataExtents } from './data-extents.ts';
import { readExactly } from './read-exactly.ts';

export interface OpenDisk {
  handle: FileHandle;
  name: string;
  libc: Libc | undefined;
  readLimit: Semaphore;
}

/**
 * File systems stamp times by a clock that ticks every 1 to 10 ms. A file written within its last tick could be written
 * once more without its times changing, so the identity of such a file is only taken after the tick.
 */
const TIMESTAMP_TICK_MS = 20;

/** A sector: most data shows within one, and copying more takes longer than the call. */
const LOOK_SIZE_BYTES = 512;

/** @param sizeBytes from fstat on `handle`, which the source owns from now on. */
export function openRawFile({ handle, name, libc, readLimit }: OpenDisk, sizeBytes: number): DiskSource {
  const { fd } = handle;

  async function identity(): Promise<SourceIdentity> {
    const stat = await handle.stat({ bigint: true });
    const ageMs = Date.now() - Number(stat.ctimeMs);
    if (ageMs >= 0 && ageMs < TIMESTAMP_TICK_MS) {
      await delay(TIMESTAMP_TICK_MS);
      return identity();
    }
    return {
      device: `${stat.dev}`,
      inode: `${stat.ino}`,
      size: `${stat.size}`,
      mtime: `${stat.mtimeNs}`,
      ctime: `${stat.ctimeNs}`,
    };
  }

  const cached = libc === undefined ? undefined : createCachedReader(LOOK_SIZE_BYTES);
  const zeros = Buffer.alloc(LOOK_SIZE_BYTES);

  return {
    name,
    sizeBytes,
    fd,
    ...(cached === undefined ? {} : { showsData: (offset) => cached.read(fd, offset) && !zeros.equals(cached.bytes) }),
    extents: (signal) => dataExtents({ libc, fd, name, sizeBytes, signal }),
    read: (buffer, offset, signal) => readExactly({ fd, name, readLimit }, buffer, offset, signal),
    identity,
    dispose: () => handle.close(),
  };
}
