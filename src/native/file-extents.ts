/** Extents of a file: which hold data (lseek(2)), and which were allocated and never written (FS_IOC_FIEMAP). */

import type { CallResult, Libc } from './libc.ts';

const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** An extent that holds data, in bytes; `end` is exclusive. */
interface DataExtent {
  start: number;
  end: number;
}

/** 'unsupported' where the file system or the device does not report holes (EINVAL); then all bytes must be read. */
export type DataExtentResult = DataExtent | 'none' | 'unsupported';

class SeekError extends Error {
  readonly code: string;
  constructor(code: string) {
    super(`lseek failed: ${code}`);
    this.code = code;
  }
}

function failure(result: CallResult): 'unsupported' {
  // File systems without the operation answer this; any other error (EIO) is real.
  if (['EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS'].includes(result.errno ?? '')) return 'unsupported';
  throw new SeekError(result.errno ?? 'unknown error');
}

/**
 * The first extent of data at or behind `offset`; 'none' when only a hole is left.
 * @throws SeekError for an error of the file system
 */
export async function nextDataExtent(libc: Libc, fd: number, offset: number): Promise<DataExtentResult> {
  const data = await libc.lseek(fd, offset, SEEK_DATA);
  if (data.errno === 'ENXIO') return 'none';
  if (data.value < 0) return failure(data);
  const hole = await libc.lseek(fd, data.value, SEEK_HOLE);
  // The file was cut right now; the read will find out.
  if (hole.errno === 'ENXIO') return 'none';
  if (hole.value < 0) return failure(hole);
  return { start: data.value, end: hole.value };
}

/** The offset of the end. It is the size of a block device, which fstat does not report. @throws SeekError */
export async function endOffset(libc: Libc, fd: number): Promise<number> {
  const end = await libc.lseek(fd, 0, SEEK_END);
  if (end.value < 0) throw new SeekError(end.errno ?? 'unknown error');
  return end.value;
}

/** An extent that is allocated and was never written, in bytes. */
export interface UnwrittenExtent {
  offset: number;
  length: number;
}

// struct fiemap (linux/fiemap.h): u64 start, u64 length, u32 flags, u32 mapped_extents, u32 extent_count, u32 reserved;
// its extents behind it
const HEADER_BYTES = 32;
// struct fiemap_extent: u64 logical, u64 physical, u64 length, u64 reserved[2], u32 flags, u32 reserved[3]
const EXTENT_BYTES = 56;
const FIEMAP_EXTENT_LAST = 0x1;
const FIEMAP_EXTENT_UNWRITTEN = 0x800;

const EXTENTS_AT_ONCE = 512;
const MAX_LENGTH = 2n ** 64n - 1n;

/** Ends early where the file system does not support FIEMAP (tmpfs, most network file systems). */
export async function* unwrittenExtents(libc: Libc, fd: number): AsyncGenerator<UnwrittenExtent> {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + EXTENTS_AT_ONCE * EXTENT_BYTES));
  const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  for (let start = 0n; ; ) {
    new Uint8Array(view.buffer).fill(0, 0, HEADER_BYTES);
    view.setBigUint64(0, start, isLittleEndian);
    view.setBigUint64(8, MAX_LENGTH - start, isLittleEndian);
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
