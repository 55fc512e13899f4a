/** Which parts of a file hold data: lseek(2) with SEEK_DATA and SEEK_HOLE. */

import type { CallResult, Libc } from './libc.ts';

const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** A stretch of data, in bytes; `end` is exclusive. */
interface DataStretch {
  start: number;
  end: number;
}

/** 'unsupported' where the file system or the device cannot tell (EINVAL); then everything is to be read. */
export type DataStretchResult = DataStretch | 'none' | 'unsupported';

class SeekError extends Error {
  readonly code: string;
  constructor(code: string) {
    super(`lseek failed: ${code}`);
    this.code = code;
  }
}

function failure(result: CallResult): 'unsupported' {
  // What file systems without the operation answer; anything else (EIO) is a real error.
  if (['EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS'].includes(result.errno ?? '')) return 'unsupported';
  throw new SeekError(result.errno ?? 'unknown error');
}

/**
 * The first stretch of data at or behind `offset`; 'none' when only a hole is left.
 * @throws SeekError for an error of the file system
 */
export async function nextDataStretch(libc: Libc, fd: number, offset: number): Promise<DataStretchResult> {
  const data = await libc.lseek(fd, offset, SEEK_DATA);
  if (data.errno === 'ENXIO') return 'none';
  if (data.value < 0) return failure(data);
  const hole = await libc.lseek(fd, data.value, SEEK_HOLE);
  // The file was cut right now; the read will find out.
  if (hole.errno === 'ENXIO') return 'none';
  if (hole.value < 0) return failure(hole);
  return { start: data.value, end: hole.value };
}

/** The offset of the end: the size of a block device, which fstat does not tell. @throws SeekError */
export async function endOffset(libc: Libc, fd: number): Promise<number> {
  const end = await libc.lseek(fd, 0, SEEK_END);
  if (end.value < 0) throw new SeekError(end.errno ?? 'unknown error');
  return end.value;
}
