/** Reading what the page cache holds, and nothing else: preadv2(2) with RWF_NOWAIT. */

import { openNativeLibrary } from './library.ts';

const RWF_NOWAIT = 8;

export interface CachedReader {
  /** What the last successful `read` has read; its length is all that `read` reads. */
  readonly bytes: Uint8Array;
  /**
   * Reads at `offset` of `fd`, on the calling thread: it takes about a microsecond, because it never waits for storage.
   * @returns false when not all of it is cached, or the file system cannot tell (network file systems cannot)
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
