/** A disk that lies raw in a regular file. */

import type { FileHandle } from 'node:fs/promises';
import type { Limiter } from '../common/limiter.ts';
import type { Libc } from '../native/libc.ts';
import { dropCachedPages } from '../native/page-cache.ts';
import type { DiskSource } from './contract.ts';
import { createDataLook, dataExtents } from './file-extents.ts';
import { createFileIdentity } from './file-identity.ts';
import type { FileSystemTraits } from './file-system-traits.ts';
import { closeHandle, readExactly } from './opened-file.ts';

export interface OpenDisk {
  handle: FileHandle;
  name: string;
  libc: Libc | undefined;
  readLimit: Limiter;
}

export interface OpenRawFile extends OpenDisk {
  /** Opens the file that has the name now. When left out, only the descriptor determines the identity. */
  reopen?: (() => Promise<FileHandle>) | undefined;
  fileSystem: FileSystemTraits;
}

/** @param sizeBytes from fstat on `handle`; the source owns `handle` from now on */
export async function openRawFile(
  { handle, name, libc, readLimit, reopen, fileSystem }: OpenRawFile,
  sizeBytes: number,
): Promise<DiskSource> {
  const { fd } = handle;
  const looksLikeData = createDataLook(libc);
  const dropStalePages = async () => {
    if (libc !== undefined && fileSystem.cacheGoesStale) await dropCachedPages(libc, fd, 0, 0);
  };
  await dropStalePages();

  const disk: DiskSource = {
    name,
    sizeBytes,
    ...(looksLikeData === undefined ? {} : { showsData: (offset) => looksLikeData(fd, offset) }),
    extents: (signal, holes) => dataExtents({ libc, fd, name, sizeBytes, signal, holes }),
    read: (buffer, offset, signal) => readExactly({ fd, name, readLimit }, buffer, offset, signal),
    fileExtents: (offset, length) => [{ offset, length, fd, fileOffset: offset }],
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
