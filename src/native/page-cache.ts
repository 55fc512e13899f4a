/** The page cache: posix_fadvise(2) says what it should hold, and preadv2(2) with RWF_NOWAIT reads only from it. */

import { alignDown, alignUp } from '../common/bytes.ts';
import type { Libc } from './libc.ts';
import { openNativeLibrary } from './library.ts';

const POSIX_FADV_RANDOM = 1;
const POSIX_FADV_WILLNEED = 3;
const POSIX_FADV_DONTNEED = 4;

/** Only whole pages are dropped; no Linux platform has larger ones. */
const MAX_PAGE_SIZE_BYTES = 65_536;

/** Turns read-ahead off, which would fill the cache with pages that are dropped unread. */
export async function disableReadahead(libc: Libc, fd: number): Promise<void> {
  await libc.posixFadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

/** Drops clean cached pages of an extent (length 0: up to the end), so that the next read asks the device. */
export async function dropCachedPages(libc: Libc, fd: number, offset: number, length: number): Promise<void> {
  const start = alignDown(offset, MAX_PAGE_SIZE_BYTES);
  const end = alignUp(offset + length, MAX_PAGE_SIZE_BYTES);
  await libc.posixFadvise(fd, start, length === 0 ? 0 : end - start, POSIX_FADV_DONTNEED);
}

/** Starts reading an extent of a file into the cache; cached pages cost little. A hint, so errors do not matter. */
export async function prefetchPages(libc: Libc, fd: number, offset: number, length: number): Promise<void> {
  await libc.posixFadvise(fd, offset, length, POSIX_FADV_WILLNEED);
}

const RWF_NOWAIT = 8;

export interface CachedReader {
  /** Bytes of the last successful `read`; every read has this length. */
  readonly bytes: Uint8Array;
  /**
   * Reads at `offset` of `fd`, on the calling thread: it takes about a microsecond, because it never waits for storage.
   * @returns false when not all of it is cached, or the file system cannot report that (network file systems cannot)
   */
  read(fd: number, offset: number): boolean;
}

/** @returns undefined without koffi, or where the C library lacks the call. */
export function createCachedReader(sizeBytes: number): CachedReader | undefined {
  const library = openNativeLibrary();
  if (library === undefined) return undefined;
  try {
    const preadv2 = library.func('int64_t preadv64v2(int fd, void *iov, int count, int64_t offset, int flags)');
    const bytes = Buffer.allocUnsafeSlow(sizeBytes);
    // struct iovec: void *base, size_t length
    const iovec = BigUint64Array.of(library.addressOf(bytes), BigInt(sizeBytes));
    return { bytes, read: (fd, offset) => Number(preadv2(fd, iovec, 1, offset, RWF_NOWAIT)) === sizeBytes };
  } catch {
    return undefined;
  }
}
