/**
 * A disk whose bytes lie in the files of its image as they are: neither compressed nor encrypted. disklift reads it
 * without QEMU (docs/decisions/0018-plain-qcow2.md). The way of a byte: `mapChain` maps guest offsets to files once,
 * when the disk is opened; `read` and `fileExtents` look offsets up in that map.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import { type Piece, readPieces } from '../common/read-pieces.ts';
import type { GuestMapping } from '../qcow2/read/guest-mapping.ts';
import type { DiskSource, FileExtent, SourceExtent, WantedHoles } from '../sources/contract.ts';
import { createDataLook, createFileHoles, dropUnwrittenPages, ExtentJoiner, LOOK_SIZE_BYTES } from '../sources/file-extents.ts';
import { readExactly } from '../sources/opened-file.ts';
import type { LayerMapping, PlainLayer, ReadOptions } from './format.ts';
import { readerOf } from './formats.ts';
import type { ImageFile } from './image-file.ts';
import { factsOf, type ImageFiles } from './image-files.ts';

/**
 * Reads all tables of `image`, which the source owns from now on. Without a result, `image` stays the caller's.
 * @returns undefined where QEMU has to read the image
 * @throws DiskliftError `SourceReadError`, also for wrong tables; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function openPlainDisk(image: ImageFiles, options: ReadOptions): Promise<DiskSource | undefined> {
  const mapped = await mapChain(image.root, options);
  if (mapped === undefined) return undefined;
  const { notice } = mapped;
  return {
    ...createPlainDisk(image.root.name, mapped, options),
    ...factsOf(image),
    ...(notice === undefined ? {} : { notice }),
    dispose: async () => image[Symbol.asyncDispose](),
  };
}

interface MappedFiles {
  mapping: GuestMapping;
  /** By the mapping's numbers of them. */
  files: readonly ImageFile[];
  notice?: string;
}

/**
 * Reads the tables of one image at a time, from the last backing file to the root. Reads no tables before all headers
 * are found plain.
 */
async function mapChain(root: ImageFile, options: ReadOptions): Promise<MappedFiles | undefined> {
  const layers: PlainLayer[] = [];
  for (let file: ImageFile | undefined = root; file !== undefined; file = file.backing) {
    const { findPlainLayer } = await readerOf(file.format);
    const layer: PlainLayer | undefined = await findPlainLayer?.(file);
    if (layer === undefined) return undefined;
    layers.push(layer);
  }
  const files: ImageFile[] = [];
  let top: LayerMapping | undefined;
  for (const layer of layers.toReversed()) {
    const firstFile = files.length;
    files.push(...layer.files);
    top = await layer.readMapping({ firstFile, backing: top?.mapping }, options);
    if (top === undefined) return undefined;
  }
  if (top === undefined) return undefined;
  const { mapping, notice } = top;
  return { mapping, files, ...(layers.length === 1 && notice !== undefined ? { notice } : {}) };
}

/** After this many ranges, other work of the process runs: less than a millisecond. */
const RANGES_IN_A_ROW = 1024;

type PlainDisk = Omit<DiskSource, 'identity' | 'dispose'>;

function createPlainDisk(name: string, { mapping, files }: MappedFiles, { libc, readLimit }: ReadOptions): PlainDisk {
  const { sizeBytes } = mapping;
  const targets = files.map((file) => ({ fd: file.handle.fd, name: file.name, readLimit }));
  const targetOf = ({ file }: { file: number }) => targets[file] as (typeof targets)[number];
  const looksLikeData = createDataLook(libc);

  function showsData(offset: number): boolean {
    for (const { length, place } of mapping.ranges(offset, Math.min(offset + LOOK_SIZE_BYTES, sizeBytes)))
      return place !== undefined && length === LOOK_SIZE_BYTES && looksLikeData?.(targetOf(place).fd, place.offset) === true;
    return false;
  }

  async function* extents(signal: AbortSignal, wanted: WantedHoles = 'all'): AsyncGenerator<SourceExtent> {
    if (wanted === 'all') for (const { fd } of targets) await dropUnwrittenPages({ libc, fd, signal });
    const holes = targets.map((target) => createFileHoles({ libc, ...target }));
    const joiner = new ExtentJoiner();
    let rangeCount = 0;
    for (const { offset, length, place } of mapping.ranges(0, sizeBytes)) {
      if (rangeCount % RANGES_IN_A_ROW === 0) await nextTurn();
      throwIfAborted(signal);
      rangeCount += 1;
      const parts =
        place === undefined
          ? [{ length, isHole: true }]
          : await (holes[place.file] as (typeof holes)[number]).partsOf(place.offset, length);
      let at = offset;
      for (const part of parts) {
        const complete = joiner.push({ offset: at, length: part.length, kind: part.isHole ? 'zeros' : 'data' });
        if (complete !== undefined) yield complete;
        at += part.length;
      }
    }
    const last = joiner.end();
    if (last !== undefined) yield last;
  }

  async function read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
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
  }

  function* fileExtents(offset: number, length: number): Generator<FileExtent> {
    for (const range of mapping.ranges(offset, offset + length)) {
      const { place } = range;
      if (place !== undefined) yield { offset: range.offset, length: range.length, fd: targetOf(place).fd, fileOffset: place.offset };
    }
  }

  return { name, sizeBytes, ...(looksLikeData === undefined ? {} : { showsData }), extents, read, fileExtents };
}
