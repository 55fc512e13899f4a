/**
 * The kernel's caches of a file. Pages: posix_fadvise(2) says which ones the cache should hold, and preadv2(2) with
 * RWF_NOWAIT reads only from the cache. Attributes: statx(2) with AT_STATX_FORCE_SYNC fetches the present ones.
 */

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

const AT_STATX_FORCE_SYNC = 0x2000;
/** Size, inode, times: the fields of stat(2). */
const STATX_BASIC_STATS = 0x7ff;

/**
 * ENOSYS: Linux before 4.11. EPERM: sandboxes that are older than the call. EINVAL: stand-ins for Linux without its
 * flags.
 */
const LACKS_STATX: ReadonlySet<string> = new Set(['ENOSYS', 'EPERM', 'EINVAL']);

/**
 * Makes the kernel request the attributes of `fd` from its server, so that a later fstat(2) reports no cached ones. NFS
 * caches them for seconds, and file systems in user space for any time. Local file systems need no request.
 * @returns the errno of a failed request
 */
export async function refreshAttributes(libc: Libc, fd: number): Promise<string | undefined> {
  const errno = (await libc.statx?.(fd, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS))?.errno;
  return errno === undefined || LACKS_STATX.has(errno) ? undefined : errno;
}
