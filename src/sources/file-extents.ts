/** The data of a file and the holes between it, which are zeros that need not be read. */

import { throwIfAborted } from '../common/abortable.ts';
import { KIB, MIB } from '../common/bytes.ts';
import { createCachedReader, dropCachedPages } from '../native/file-cache.ts';
import { type DataExtentResult, nextDataExtent, unwrittenExtents } from '../native/file-extents.ts';
import type { Libc } from '../native/libc.ts';
import type { SourceExtent, WantedHoles } from './contract.ts';
import { readError } from './opened-file.ts';

export interface FileToSeek {
  /** Without it, all of the file counts as data. */
  libc: Libc | undefined;
  fd: number;
  name: string;
}

export interface ExtentsInput extends FileToSeek {
  sizeBytes: number;
  signal: AbortSignal;
  holes?: WantedHoles | undefined;
}

/** After this many short answers in a row, the next answers are probably short as well. */
const MAX_SHORT_ANSWERS = 64;
const SHORT_BYTES = 64 * KIB;
/** This many bytes then count as data without a query. Reading them takes about as long as a hundred answers. */
const UNASKED_BYTES = 16 * MIB;
/** After that, this many answers show whether the short extents continue. */
const TRIAL_ANSWERS = 8;

/**
 * On ext4 and xfs a cached page of an unwritten extent counts as data, and a read is enough to cache it. Dropping these
 * pages gives the same disk the same extents at each run. Dirty pages stay and are data.
 */
export async function dropUnwrittenPages({ libc, fd, signal }: Pick<ExtentsInput, 'libc' | 'fd' | 'signal'>): Promise<void> {
  if (libc === undefined) return;
  for await (const { offset, length } of unwrittenExtents(libc, fd)) {
    throwIfAborted(signal);
    await dropCachedPages(libc, fd, offset, length);
  }
}

/**
 * The extents of a file from its start to its end. Without SEEK_DATA (no koffi, or a file system that lacks it) the
 * whole file is data.
 * @throws DiskliftError `SourceReadError` that names the offset, `Cancelled`
 */
export async function* dataExtents({ libc, fd, name, sizeBytes, signal, holes }: ExtentsInput): AsyncGenerator<SourceExtent> {
  if (holes !== 'worthwhile') await dropUnwrittenPages({ libc, fd, signal });
  let at = 0;
  let untilUnasked = MAX_SHORT_ANSWERS;
  while (at < sizeBytes) {
    throwIfAborted(signal);
    if (untilUnasked === 0) {
      const unaskedEnd = Math.min(at + UNASKED_BYTES, sizeBytes);
      yield { offset: at, length: unaskedEnd - at, kind: 'data' };
      at = unaskedEnd;
      untilUnasked = TRIAL_ANSWERS;
      continue;
    }
    const data = await seekData({ libc, fd, name }, at);
    // The file may have grown since; the check of its identity reports that. Here it ends where it ended at first.
    const start = data === 'none' ? sizeBytes : data === 'unsupported' ? at : Math.min(data.start, sizeBytes);
    const end = typeof data === 'string' ? sizeBytes : Math.min(data.end, sizeBytes);
    if (start > at) yield { offset: at, length: start - at, kind: 'zeros' };
    if (end > start) yield { offset: start, length: end - start, kind: 'data' };
    untilUnasked = holes === 'worthwhile' && end - at < SHORT_BYTES ? untilUnasked - 1 : MAX_SHORT_ANSWERS;
    at = end;
  }
}

async function seekData({ libc, fd, name }: FileToSeek, at: number): Promise<DataExtentResult> {
  if (libc === undefined) return 'unsupported';
  try {
    return await nextDataExtent(libc, fd, at);
  } catch (error) {
    throw readError(name, at, error);
  }
}

interface FilePart {
  length: number;
  isHole: boolean;
}

export interface FileHoles {
  /** Divides `length` bytes from `offset` on into data and holes, in order. @throws DiskliftError `SourceReadError` */
  partsOf(offset: number, length: number): Promise<FilePart[]>;
}

/**
 * A query takes as long as reading some hundred KiB. A shorter range counts as data unless the last answer covers it.
 */
const MIN_ASKED_BYTES = MIB;

/** For a reader that goes through a file in another order than the file's own. */
export function createFileHoles(file: FileToSeek): FileHoles {
  /** A hole from `start` on, data from `dataStart` on, and not known from `end` on. */
  let known = { start: 0, dataStart: 0, end: file.libc === undefined ? Number.POSITIVE_INFINITY : 0 };

  async function ask(offset: number): Promise<void> {
    const data = await seekData(file, offset);
    if (data === 'unsupported') known = { start: 0, dataStart: 0, end: Number.POSITIVE_INFINITY };
    else if (data === 'none') known = { start: offset, dataStart: Number.POSITIVE_INFINITY, end: Number.POSITIVE_INFINITY };
    else known = { start: offset, dataStart: data.start, end: data.end };
  }

  return {
    async partsOf(offset, length) {
      const parts: FilePart[] = [];
      const end = offset + length;
      for (let at = offset; at < end; ) {
        const isKnown = () => at >= known.start && at < known.end;
        if (!isKnown() && end - at >= MIN_ASKED_BYTES) await ask(at);
        const isHole = isKnown() && at < known.dataStart;
        const to = isKnown() ? Math.min(end, isHole ? known.dataStart : known.end) : end;
        parts.push({ length: to - at, isHole });
        at = to;
      }
      return parts;
    },
  };
}

/** Joins neighbours of one kind: a disk in a million short extents may well be data throughout. */
export class ExtentJoiner {
  private last: SourceExtent | undefined;

  /** @param extent follows the previous one without a gap @returns the extent that is complete now */
  push(extent: SourceExtent): SourceExtent | undefined {
    const { last } = this;
    if (last?.kind === extent.kind) {
      last.length += extent.length;
      return undefined;
    }
    this.last = extent;
    return last;
  }

  /** @returns the last extent */
  end(): SourceExtent | undefined {
    return this.last;
  }
}

/** A sector: most data shows within one, and copying more takes longer than the call. */
export const LOOK_SIZE_BYTES = 512;

/**
 * @returns a function that checks whether the page cache shows bytes other than zero at an offset of a file; it never
 * waits for storage
 */
export function createDataLook(libc: Libc | undefined): ((fd: number, offset: number) => boolean) | undefined {
  const cached = libc === undefined ? undefined : createCachedReader(LOOK_SIZE_BYTES);
  if (cached === undefined) return undefined;
  const zeros = Buffer.alloc(LOOK_SIZE_BYTES);
  return (fd, offset) => cached.read(fd, offset) && !zeros.equals(cached.bytes);
}
