/**
 * A disk that lies plain in the files of its qcow2 image, read from them without another process in between: neither compressed nor
 * encrypted, nor otherwise more than a matter of where (docs/decisions/0018-plain-qcow2.md).
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../common/abortable.ts';
import { DiskliftError } from '../../common/errors.ts';
import { type Piece, readPieces } from '../../common/read-pieces.ts';
import { createCachedReader } from '../../native/cached-read.ts';
import type { Libc } from '../../native/libc.ts';
import type { DiskSource, FileExtent, SourceExtent, WantedHoles } from '../../sources/contract.ts';
import { createFileHoles, dropUnwrittenPages } from '../../sources/file-extents.ts';
import { readExactly } from '../../sources/opened-file.ts';
import { factsOf, type ImageFiles } from '../open-image-files.ts';
import { type MappedFiles, type ReadOptions, readMapping } from './read-mapping.ts';

export interface OpenPlainQcow2Options extends ReadOptions {
  libc: Libc | undefined;
}

type PlainDisk = Omit<DiskSource, 'identity' | 'dispose'>;

/** A sector: most data shows within one, and copying more takes longer than the call. */
const LOOK_SIZE_BYTES = 512;

/** Ranges that are gone through before other work of the process has its turn: less than a millisecond. */
const RANGES_IN_A_ROW = 1024;

/**
 * Reads all tables of `image`, which the source owns from now on; where there is none, it is still the caller's.
 * @returns undefined where QEMU has to read it
 * @throws DiskliftError `SourceReadError` for tables that are wrong, too; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function openPlainQcow2(image: ImageFiles, options: OpenPlainQcow2Options): Promise<DiskSource | undefined> {
  const { root } = image;
  const mapped = await readMapping(root, options);
  if (mapped === undefined) return undefined;
  const { notice } = mapped;
  return {
    ...createPlainDisk(root.name, mapped, options),
    ...factsOf(image),
    ...(notice === undefined ? {} : { notice }),
    dispose: async () => image[Symbol.asyncDispose](),
  };
}

function createPlainDisk(name: string, { mapping, files }: MappedFiles, { libc, readLimit }: OpenPlainQcow2Options): PlainDisk {
  const { sizeBytes } = mapping;
  const targets = files.map((file) => ({ fd: file.handle.fd, name: file.name, readLimit }));
  const targetOf = ({ file }: { file: number }) => targets[file] as (typeof targets)[number];
  const cached = libc === undefined ? undefined : createCachedReader(LOOK_SIZE_BYTES);
  const zeros = Buffer.alloc(LOOK_SIZE_BYTES);

  function showsData(offset: number): boolean {
    for (const { length, place } of mapping.ranges(offset, Math.min(offset + LOOK_SIZE_BYTES, sizeBytes)))
      return (
        place !== undefined &&
        length === LOOK_SIZE_BYTES &&
        cached?.read(targetOf(place).fd, place.offset) === true &&
        !zeros.equals(cached.bytes)
      );
    return false;
  }

  async function* pieces(signal: AbortSignal, wanted: WantedHoles): AsyncGenerator<SourceExtent> {
    if (wanted === 'all') for (const { fd } of targets) await dropUnwrittenPages({ libc, fd, signal });
    const holes = targets.map((target) => createFileHoles({ libc, ...target }));
    let rangeCount = 0;
    for (const { offset, length, place } of mapping.ranges(0, sizeBytes)) {
      if (rangeCount % RANGES_IN_A_ROW === 0) await nextTurn();
      throwIfAborted(signal);
      rangeCount += 1;
      if (place === undefined) {
        yield { offset, length, kind: 'zeros' };
        continue;
      }
      let at = offset;
      for (const piece of await (holes[place.file] as (typeof holes)[number]).partsOf(place.offset, length)) {
        yield { offset: at, length: piece.length, kind: piece.isHole ? 'zeros' : 'data' };
        at += piece.length;
      }
    }
  }

  return {
    name,
    sizeBytes,
    ...(cached === undefined ? {} : { showsData }),
    extents: (signal, wanted = 'all') => joined(pieces(signal, wanted)),
    async read(buffer, offset, signal) {
      throwIfAborted(signal);
      const end = offset + buffer.length;
      if (end > sizeBytes)
        throw new DiskliftError('SourceChanged', `${name}: ends at offset ${sizeBytes}, and was to be read to offset ${end}`);
      const pieces = new Map<number, Piece[]>();
      for (const { offset: at, length, place } of mapping.ranges(offset, end)) {
        const target = buffer.subarray(at - offset, at - offset + length);
        if (place === undefined) target.fill(0);
        else {
          const ofFile = pieces.get(place.file) ?? [];
          ofFile.push({ target, offset: place.offset });
          pieces.set(place.file, ofFile);
        }
      }
      const readFile = ([file, ofFile]: [number, Piece[]]) =>
        readPieces(ofFile, (target, at) => readExactly(targetOf({ file }), target, at, signal));
      await Promise.all([...pieces].map(readFile));
    },
    *fileExtents(offset, length): Generator<FileExtent> {
      for (const range of mapping.ranges(offset, offset + length)) {
        const { place } = range;
        if (place === undefined) continue;
        yield { offset: range.offset, length: range.length, fd: targetOf(place).fd, fileOffset: place.offset };
      }
    },
  };
}

/** Neighbours of one kind as one extent: a disk in a million pieces may well be data throughout. */
async function* joined(extents: AsyncIterable<SourceExtent>): AsyncGenerator<SourceExtent> {
  let last: SourceExtent | undefined;
  for await (const extent of extents) {
    if (last?.kind === extent.kind) {
      last.length += extent.length;
      continue;
    }
    if (last !== undefined) yield last;
    last = extent;
  }
  if (last !== undefined) yield last;
}
