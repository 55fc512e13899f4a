/** The extents of a file: its data, and the holes between, which are zeros that nobody has to read. */

import { throwIfAborted } from '../common/abortable.ts';
import type { Libc } from '../native/libc.ts';
import { nextDataStretch } from '../native/seek-data.ts';
import type { SourceExtent } from './contract.ts';
import { readError } from './read-exactly.ts';

export interface ExtentsInput {
  libc: Libc | undefined;
  fd: number;
  name: string;
  sizeBytes: number;
  signal: AbortSignal;
}

/** Without SEEK_DATA (no koffi, or a file system that lacks it) the whole disk is one extent of data. */
export async function* dataExtents({ libc, fd, name, sizeBytes, signal }: ExtentsInput): AsyncGenerator<SourceExtent> {
  let at = 0;
  while (at < sizeBytes) {
    throwIfAborted(signal);
    const stretch = libc === undefined ? 'unsupported' : await seek(libc, fd, name, at);
    // The file may have grown meanwhile; the identity check will tell. It ends here where it ended at first.
    const start = stretch === 'none' ? sizeBytes : stretch === 'unsupported' ? at : Math.min(stretch.start, sizeBytes);
    const end = typeof stretch === 'string' ? sizeBytes : Math.min(stretch.end, sizeBytes);
    if (start > at) yield { offset: at, length: start - at, kind: 'zeros' };
    if (end > start) yield { offset: start, length: end - start, kind: 'data' };
    at = end;
  }
}

async function seek(libc: Libc, fd: number, name: string, at: number) {
  try {
    return await nextDataStretch(libc, fd, at);
  } catch (error) {
    throw readError(name, at, error);
  }
}
