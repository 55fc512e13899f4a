/** Extents of a file that are allocated and were never written: ioctl(2) with FS_IOC_FIEMAP. */

import type { Libc } from './libc.ts';

/** An extent of the file, in bytes. */
export interface UnwrittenExtent {
  offset: number;
  length: number;
}

// struct fiemap (linux/fiemap.h): u64 start, u64 length, u32 flags, u32 mapped_extents, u32 extent_count, u32 reserved; its extents behind it
const HEADER_BYTES = 32;
// struct fiemap_extent: u64 logical, u64 physical, u64 length, u64 reserved[2], u32 flags, u32 reserved[3]
const EXTENT_BYTES = 56;
const FIEMAP_EXTENT_LAST = 0x1;
const FIEMAP_EXTENT_UNWRITTEN = 0x800;

const EXTENTS_AT_ONCE = 512;
const LARGEST_LENGTH = 2n ** 64n - 1n;

/** Ends early where the file system does not support FIEMAP (tmpfs, most network file systems). */
export async function* unwrittenExtents(libc: Libc, fd: number): AsyncGenerator<UnwrittenExtent> {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + EXTENTS_AT_ONCE * EXTENT_BYTES));
  const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  for (let start = 0n; ; ) {
    new Uint8Array(view.buffer).fill(0, 0, HEADER_BYTES);
    view.setBigUint64(0, start, isLittleEndian);
    view.setBigUint64(8, LARGEST_LENGTH - start, isLittleEndian);
    view.setUint32(24, EXTENTS_AT_ONCE, isLittleEndian);
    if ((await libc.fiemap(fd, view.buffer)).value < 0) return;
    const count = view.getUint32(20, isLittleEndian);
    let isLast = count === 0;
    for (let index = 0; index < count; index += 1) {
      const at = HEADER_BYTES + index * EXTENT_BYTES;
      const [offset, length] = [view.getBigUint64(at, isLittleEndian), view.getBigUint64(at + 16, isLittleEndian)];
      const flags = view.getUint32(at + 40, isLittleEndian);
      if (flags & FIEMAP_EXTENT_UNWRITTEN) yield { offset: Number(offset), length: Number(length) };
      isLast ||= (flags & FIEMAP_EXTENT_LAST) !== 0;
      start = offset + length;
    }
    if (isLast) return;
  }
}
