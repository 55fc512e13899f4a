/** A disk that lies raw in a regular file. */

import type { FileHandle } from 'node:fs/promises';
import type { Semaphore } from '../common/semaphore.ts';
import { createCachedReader } from '../native/cached-read.ts';
import type { Libc } from '../native/libc.ts';
import type { DiskSource } from './contract.ts';
import { dataExtents } from './data-extents.ts';
import { identityOfFile } from './file-identity.ts';
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

/** A sector: most data shows within one, and copying more takes longer than the call. */
const LOOK_SIZE_BYTES = 512;

/** @param sizeBytes from fstat on `handle`, which the source owns from now on. */
export function openRawFile({ handle, name, libc, readLimit, reopen }: OpenRawFile, sizeBytes: number): DiskSource {
  const { fd } = handle;

  const cached = libc === undefined ? undefined : createCachedReader(LOOK_SIZE_BYTES);
  const zeros = Buffer.alloc(LOOK_SIZE_BYTES);

  return {
    name,
    sizeBytes,
    ...(cached === undefined ? {} : { showsData: (offset) => cached.read(fd, offset) && !zeros.equals(cached.bytes) }),
    extents: (signal) => dataExtents({ libc, fd, name, sizeBytes, signal }),
    read: (buffer, offset, signal) => readExactly({ fd, name, readLimit }, buffer, offset, signal),
    places: (offset, length) => [{ offset, length, fd, fileOffset: offset }],
    identity: () => identityOfFile({ handle, name, libc, reopen }),
    dispose: () => handle.close(),
  };
}
