/**
 * A window of this process's address space that shows an extent of a file. The kernel reads through it into the file's
 * own pages, without the file's lock. It can make them huge pages, also on a tmpfs that is mounted without them.
 */

import { readFileSync } from 'node:fs';
import { MIB } from '../common/bytes.ts';
import type { Libc } from './libc.ts';

/** Size on most processors, with pages of 4 KiB. */
export const HUGE_PAGE_BYTES = 2 * MIB;

const HUGE_PAGE_SIZE_FILE = '/sys/kernel/mm/transparent_hugepage/hpage_pmd_size';

const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
/** Linux 5.14 */
const MADV_POPULATE_WRITE = 23;
/** Linux 6.1 */
const MADV_COLLAPSE = 25;

/** At least one page, of any page size. */
const ONE_PAGE_BYTES = 1;

interface WindowExtent {
  fd: number;
  /** A multiple of {@link HUGE_PAGE_BYTES}, like the length. */
  offset: number;
  /** At most the window's size. The file must be that long, or it cannot be filled. */
  length: number;
}

export interface FileWindow {
  /**
   * Shows another extent, of a file that is open for reading and writing, and makes its pages huge. New pages are
   * zeros.
   * @returns false when the kernel does not support that, or has no contiguous memory of that size
   */
  showInHugePages(extent: WindowExtent): Promise<boolean>;
  /**
   * Fills the shown extent from `fdIn` at `fileOffset` on.
   * @returns false when a read or write failed, or ended early
   */
  fillFrom(fdIn: number, fileOffset: number): Promise<boolean>;
  close(): Promise<void>;
}

/** @returns undefined when the kernel has no huge pages of this size, or the address space has no room */
export async function openFileWindow(libc: Libc, sizeBytes: number): Promise<FileWindow | undefined> {
  if (hugePageBytes() !== HUGE_PAGE_BYTES) return undefined;
  const reserved = { length: sizeBytes + HUGE_PAGE_BYTES, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };
  const { value: room } = await libc.mmap({ address: 0, ...reserved, protection: PROT_NONE, fd: -1, offset: 0 });
  if (room < 0) return undefined;
  // A huge page begins at a multiple of its size in the address space as it does in the file.
  const address = Math.ceil(room / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
  let length = 0;

  /** The kernel makes a huge page from existing pages, so at least one must exist. */
  async function populateFirstPages(): Promise<boolean> {
    for (let at = 0; at < length; at += HUGE_PAGE_BYTES) {
      const { value } = await libc.madvise(address + at, ONE_PAGE_BYTES, MADV_POPULATE_WRITE);
      if (value < 0) return false;
    }
    return true;
  }

  return {
    async showInHugePages({ fd, offset, length: extentBytes }) {
      length = extentBytes;
      const mapping = { address, length, protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED | MAP_FIXED, fd, offset };
      if ((await libc.mmap(mapping)).value < 0) return false;
      if (!(await populateFirstPages())) return false;
      return (await libc.madvise(address, length, MADV_COLLAPSE)).value >= 0;
    },
    async fillFrom(fdIn, fileOffset) {
      for (let done = 0; done < length; ) {
        const { value, errno } = await libc.pread(fdIn, address + done, length - done, fileOffset + done);
        if (value <= 0 && errno !== 'EINTR') return false;
        done += Math.max(value, 0);
      }
      return true;
    },
    async close() {
      await libc.munmap(room, reserved.length);
    },
  };
}

function hugePageBytes(): number | undefined {
  try {
    return Number(readFileSync(HUGE_PAGE_SIZE_FILE, 'utf8'));
  } catch {
    // A kernel without huge pages.
    return undefined;
  }
}
