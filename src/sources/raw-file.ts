/** A disk that lies raw in a regular file. */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DiskliftError } from '../common/errors.ts';
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

export interface OpenRawFile extends OpenDisk {
  /** Opens anew what has the file's name now; left out, the identity is that of the descriptor alone. */
  reopen?: (() => Promise<FileHandle>) | undefined;
}

/**
 * File systems stamp times by a clock that ticks every 1 to 10 ms. A file written within its last tick could be written
 * once more without its times changing, so the identity of such a file is only taken after the tick.
 */
const TIMESTAMP_TICK_MS = 20;

/** A sector: most data shows within one, and copying more takes longer than the call. */
const LOOK_SIZE_BYTES = 512;

/** @param sizeBytes from fstat on `handle`, which the source owns from now on. */
export function openRawFile({ handle, name, libc, readLimit, reopen }: OpenRawFile, sizeBytes: number): DiskSource {
  const { fd } = handle;

  /**
   * A network file system asks its server when a file is opened, and may answer out of its memory in between. And another file
   * may have the name by now.
   */
  async function statNow(): Promise<BigIntStats> {
    const own = await handle.stat({ bigint: true });
    if (reopen === undefined) return own;
    await using reopened = await reopen();
    const stat = await reopened.stat({ bigint: true });
    if (stat.dev !== own.dev || stat.ino !== own.ino)
      throw new DiskliftError(
        'SourceChanged',
        `${name}: is another file than the one that was opened; let its writer finish and try again`,
      );
    return stat;
  }

  async function identity(): Promise<SourceIdentity> {
    const stat = await statNow();
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
    ...(cached === undefined ? {} : { showsData: (offset) => cached.read(fd, offset) && !zeros.equals(cached.bytes) }),
    extents: (signal) => dataExtents({ libc, fd, name, sizeBytes, signal }),
    read: (buffer, offset, signal) => readExactly({ fd, name, readLimit }, buffer, offset, signal),
    places: (offset, length) => [{ offset, length, fd, fileOffset: offset }],
    identity,
    dispose: () => handle.close(),
  };
}
