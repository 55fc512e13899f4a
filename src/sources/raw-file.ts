/** A disk that lies raw in a regular file. */

import type { FileHandle } from 'node:fs/promises';
import type { Semaphore } from '../common/semaphore.ts';
import { createCachedReader } from '../native/cached-read.ts';
import type { Libc } from '../native/libc.ts';
import { dropCachedPages } from '../native/page-cache.ts';
import { closeHandle } from './close-handle.ts';
import type { DiskSource } from './contract.ts';
import { dataExtents } from './data-extents.ts';
import { createFileIdentity } from './file-identity.ts';
import type { FileSystemTraits } from './file-systems/file-system-traits.ts';
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
  fileSystem: FileSystemTraits;
}

/** A sector: most data shows within one, and copying more takes longer than the call. */
const LOOK_SIZE_BYTES = 512;

/** @param sizeBytes from fstat on `handle`, which the source owns from now on. */
export async function openRawFile(
  { handle, name, libc, readLimit, reopen, fileSystem }: OpenRawFile,
  sizeBytes: number,
): Promise<DiskSource> {
  const { fd } = handle;

  const cached = libc === undefined ? undefined : createCachedReader(LOOK_SIZE_BYTES);
  const zeros = Buffer.alloc(LOOK_SIZE_BYTES);

  const dropStalePages = async () => {
    if (libc !== undefined && fileSystem.cacheGoesStale) await dropCachedPages(libc, fd, 0, 0);
  };
  await dropStalePages();

  const disk: DiskSource = {
    name,
    sizeBytes,
    ...(cached === undefined ? {} : { showsData: (offset) => cached.read(fd, offset) && !zeros.equals(cached.bytes) }),
    extents: (signal, holes) => dataExtents({ libc, fd, name, sizeBytes, signal, holes }),
    read: (buffer, offset, signal) => readExactly({ fd, name, readLimit }, buffer, offset, signal),
    places: (offset, length) => [{ offset, length, fd, fileOffset: offset }],
    identity: createFileIdentity({ handle, name, libc, reopen, fileSystem }),
    identityMissesWrites: !fileSystem.timesShowWrites,
    async openAgain() {
      await dropStalePages();
      return disk;
    },
    dispose: () => closeHandle(handle),
  };
  return disk;
}
