/** The extents of a file: its data, and the holes between, which are zeros that nobody has to read. */

import { throwIfAborted } from '../common/abortable.ts';
import { KIB, MIB } from '../common/bytes.ts';
import type { Libc } from '../native/libc.ts';
import { dropCachedPages } from '../native/page-cache.ts';
import { nextDataStretch } from '../native/seek-data.ts';
import { unwrittenExtents } from '../native/unwritten-extents.ts';
import type { SourceExtent, WantedHoles } from './contract.ts';
import { readError } from './read-exactly.ts';

export interface ExtentsInput {
  libc: Libc | undefined;
  fd: number;
  name: string;
  sizeBytes: number;
  signal: AbortSignal;
  holes?: WantedHoles | undefined;
}

/** After this many short answers in a row, the next answers are probably short as well. */
const MANY = 64;
const SHORT_BYTES = 64 * KIB;
/** This many bytes then count as data without a query. Reading them takes about as long as a hundred answers. */
const UNASKED_BYTES = 16 * MIB;
/** After that, this many answers show whether the short extents continue. */
const FEW = 8;

/**
 * On ext4 and xfs a cached page of an unwritten extent counts as data, and a read is enough to cache it. Dropping these pages gives the
 * same disk the same extents at each run. Dirty pages stay and are data.
 */
export async function dropUnwrittenPages({ libc, fd, signal }: Pick<ExtentsInput, 'libc' | 'fd' | 'signal'>): Promise<void> {
  if (libc === undefined) return;
  for await (const { offset, length } of unwrittenExtents(libc, fd)) {
    throwIfAborted(signal);
    await dropCachedPages(libc, fd, offset, length);
  }
}

/** Without SEEK_DATA (no koffi, or a file system that lacks it) the whole disk is one extent of data. */
export async function* dataExtents({ libc, fd, name, sizeBytes, signal, holes }: ExtentsInput): AsyncGenerator<SourceExtent> {
  if (holes !== 'worthwhile') await dropUnwrittenPages({ libc, fd, signal });
  let at = 0;
  let untilUnasked = MANY;
  while (at < sizeBytes) {
    throwIfAborted(signal);
    if (untilUnasked === 0) {
      const unaskedEnd = Math.min(at + UNASKED_BYTES, sizeBytes);
      yield { offset: at, length: unaskedEnd - at, kind: 'data' };
      at = unaskedEnd;
      untilUnasked = FEW;
      continue;
    }
    const stretch = libc === undefined ? 'unsupported' : await seek(libc, fd, name, at);
    // The file may have grown meanwhile; the identity check will tell. It ends here where it ended at first.
    const start = stretch === 'none' ? sizeBytes : stretch === 'unsupported' ? at : Math.min(stretch.start, sizeBytes);
    const end = typeof stretch === 'string' ? sizeBytes : Math.min(stretch.end, sizeBytes);
    if (start > at) yield { offset: at, length: start - at, kind: 'zeros' };
    if (end > start) yield { offset: start, length: end - start, kind: 'data' };
    untilUnasked = holes === 'worthwhile' && end - at < SHORT_BYTES ? untilUnasked - 1 : MANY;
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
