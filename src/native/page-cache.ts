/** posix_fadvise(2): what the page cache should hold, and what not. */

import { alignDown, alignUp } from '../common/bytes.ts';
import type { Libc } from './libc.ts';

const POSIX_FADV_RANDOM = 1;
const POSIX_FADV_WILLNEED = 3;
const POSIX_FADV_DONTNEED = 4;

/** Only whole pages are dropped; no Linux platform has larger ones. */
const LARGEST_PAGE_SIZE_BYTES = 65_536;

/** Turns read-ahead off: it would fill the cache with what is dropped again, unread. */
export async function disableReadahead(libc: Libc, fd: number): Promise<void> {
  await libc.posixFadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

/** Drops clean cached pages of a stretch (length 0: up to the end), so that the next read asks the device. */
export async function dropCachedPages(libc: Libc, fd: number, offset: number, length: number): Promise<void> {
  const start = alignDown(offset, LARGEST_PAGE_SIZE_BYTES);
  const end = alignUp(offset + length, LARGEST_PAGE_SIZE_BYTES);
  await libc.posixFadvise(fd, start, length === 0 ? 0 : end - start, POSIX_FADV_DONTNEED);
}

/** Starts reading a stretch of a file into the cache; what is there already costs little. A hint, so errors do not matter. */
export async function prefetchPages(libc: Libc, fd: number, offset: number, length: number): Promise<void> {
  await libc.posixFadvise(fd, offset, length, POSIX_FADV_WILLNEED);
}
