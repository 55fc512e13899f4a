/**
 * Maps the bytes of a disk to the files of its image: ranges in typed columns of 18 bytes each, found by binary search.
 * Memory grows with the fragmentation of the disk, not with its size. The overlay builder makes the mapping of an image
 * from its L2 tables, over the mapping of its backing file. Pure; fed table by table.
 */

import { doubled, lastNotAbove } from '../../common/columns.ts';
import { corruptTable, type ForeignImage, guestSizeBytes, l2TableRange, requireInFile } from './foreign-image.ts';
import type { MetadataPlaces } from './l1-table.ts';
import { type ClusterRun, parseL2Table } from './l2-table.ts';

/** An offset in a file. The builder of the mapping numbers the files. */
interface Place {
  file: number;
  offset: number;
}

/** Bytes of the disk; without a place they are zeros. */
interface MappedRange {
  offset: number;
  length: number;
  place: Place | undefined;
}

export interface GuestMapping {
  readonly sizeBytes: number;
  readonly rangeCount: number;
  /** The ranges of bytes `start` (inclusive) to `end` (exclusive), cut to these bounds, in order and without a gap. */
  ranges(start: number, end: number): Iterable<MappedRange>;
}

export interface GuestMappingBuilder {
  /** Bytes appended so far. */
  readonly sizeBytes: number;
  readonly rangeCount: number;
  /**
   * Appends bytes behind the last range. Bytes that continue the last range in the same file make that range longer.
   */
  append(length: number, place: Place | undefined): void;
  build(): GuestMapping;
}

/** Marks zeros in the column of places. */
const NOWHERE = -1;

/** Ranges that the columns of a new mapping have room for. */
const MIN_CAPACITY = 64;

export function createGuestMappingBuilder(): GuestMappingBuilder {
  let starts = new Float64Array(MIN_CAPACITY);
  let places = new Float64Array(MIN_CAPACITY);
  let files = new Uint16Array(MIN_CAPACITY);
  let rangeCount = 0;
  let sizeBytes = 0;

  function grow(): void {
    starts = doubled(starts);
    places = doubled(places);
    files = doubled(files);
  }

  function isNext(offset: number, file: number): boolean {
    const last = rangeCount - 1;
    if (last < 0) return false;
    if (offset === NOWHERE) return places[last] === NOWHERE;
    const lastPlace = places[last] as number;
    return files[last] === file && lastPlace !== NOWHERE && lastPlace + (sizeBytes - (starts[last] as number)) === offset;
  }

  return {
    get sizeBytes() {
      return sizeBytes;
    },
    get rangeCount() {
      return rangeCount;
    },
    append(length, { file, offset } = { file: 0, offset: NOWHERE }) {
      if (length === 0) return;
      if (!isNext(offset, file)) {
        if (rangeCount === files.length) grow();
        starts[rangeCount] = sizeBytes;
        places[rangeCount] = offset;
        files[rangeCount] = file;
        rangeCount += 1;
      }
      sizeBytes += length;
    },
    build: () => freeze({ starts, places, files, rangeCount, sizeBytes }),
  };
}

interface Columns {
  starts: Float64Array;
  places: Float64Array;
  files: Uint16Array;
  rangeCount: number;
  sizeBytes: number;
}

function freeze({ starts, places, files, rangeCount, sizeBytes }: Columns): GuestMapping {
  return {
    sizeBytes,
    rangeCount,
    *ranges(start, end) {
      if (start < 0 || end > sizeBytes) throw new RangeError(`bytes ${start}..${end} are not on the disk`);
      let index = lastNotAbove(starts, start, rangeCount);
      for (let at = start; at < end; index += 1) {
        const rangeEnd = index + 1 < rangeCount ? (starts[index + 1] as number) : sizeBytes;
        const to = Math.min(end, rangeEnd);
        const offset = places[index] as number;
        const place = offset === NOWHERE ? undefined : { file: files[index] as number, offset: offset + (at - (starts[index] as number)) };
        yield { offset: at, length: to - at, place };
        at = to;
      }
    },
  };
}

export interface Layer {
  image: ForeignImage;
  metadata: MetadataPlaces;
  /** The number of the file that holds its data. */
  dataFile: number;
  /** Supplies the clusters that the image does not allocate. Behind its end, and without it, they are zeros. */
  backing?: GuestMapping | undefined;
}

export interface OverlayBuilder {
  /**
   * Adds the table of the L1 index `index`. Tables in front of it that were not added do not exist.
   * @param bytes one cluster
   * @param offset of the table in the file
   * @returns false where the mapping is not possible: a cluster is compressed, or there are too many ranges
   * @throws DiskliftError `SourceReadError` that names the table's offset
   */
  addTable(bytes: Uint8Array, { index, offset }: { index: number; offset: number }): boolean;
  build(): GuestMapping;
  /** Whether one of the added tables has a cluster with the zero flag. */
  readonly hasExplicitZeros: boolean;
}

/** 72 MiB of columns. A more fragmented disk must be read without a mapping. */
export const MAX_RANGE_COUNT = 2 ** 22;

export function createOverlayBuilder({ image, metadata, dataFile, backing }: Layer): OverlayBuilder {
  const { name, header, fileSizeBytes, dataFileSizeBytes } = image;
  const { clusterSizeBytes } = header;
  const sizeBytes = guestSizeBytes(header);
  const hostSizeBytes = dataFileSizeBytes ?? fileSizeBytes;
  const builder = createGuestMappingBuilder();

  function appendBacking(length: number): void {
    const start = builder.sizeBytes;
    const backed = Math.max(0, Math.min(length, (backing?.sizeBytes ?? 0) - start));
    if (backing !== undefined && backed > 0)
      for (const range of backing.ranges(start, start + backed)) builder.append(range.length, range.place);
    builder.append(length - backed, undefined);
  }

  function appendData(hostOffset: number, length: number, tableOffset: number): void {
    const guestOffset = builder.sizeBytes;
    requireInFile(image, { guestOffset, hostOffset, length, tableOffset });
    if (dataFileSizeBytes === undefined && metadata.overlaps(hostOffset, hostOffset + length))
      throw corruptTable(name, tableOffset, `has ${guestOffset} of the disk at ${hostOffset}, where a table is`);
    const inFile = Math.min(length, hostSizeBytes - hostOffset);
    builder.append(inFile, { file: dataFile, offset: hostOffset });
    builder.append(length - inFile, undefined);
  }

  let hasExplicitZeros = false;

  function appendRun({ kind, clusterCount, hostOffset }: ClusterRun, tableOffset: number): boolean {
    if (kind === 'compressed') return false;
    hasExplicitZeros ||= kind === 'zero';
    // The disk's end may cut the last cluster.
    const length = Math.min(clusterCount * clusterSizeBytes, sizeBytes - builder.sizeBytes);
    if (kind === 'data') appendData(hostOffset, length, tableOffset);
    else if (kind === 'zero') builder.append(length, undefined);
    else appendBacking(length);
    return true;
  }

  return {
    get hasExplicitZeros() {
      return hasExplicitZeros;
    },
    addTable(bytes, { index, offset }) {
      const { guestOffset, usedBytes } = l2TableRange(header, index);
      appendBacking(guestOffset - builder.sizeBytes);
      const table = { bytes: bytes.subarray(0, usedBytes), offset, guestOffset };
      return parseL2Table(table, image, (run) => appendRun(run, offset)) && builder.rangeCount <= MAX_RANGE_COUNT;
    },
    build() {
      appendBacking(sizeBytes - builder.sizeBytes);
      return builder.build();
    },
  };
}

/** Maps a raw file to itself, up to its end. */
export function rawMapping(file: number, fileSizeBytes: number): GuestMapping {
  const builder = createGuestMappingBuilder();
  builder.append(fileSizeBytes, { file, offset: 0 });
  return builder.build();
}
