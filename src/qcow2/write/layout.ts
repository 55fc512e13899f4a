/**
 * The runs of an image. The order is header, refcount table, refcount blocks, L1 table, L2 tables, data clusters. Each
 * part starts on a cluster border, and every cluster is used exactly once.
 */

import { type AllocationMap, bytesOfClusters } from './allocation-map.ts';
import { encodeHeader } from './header.ts';
import { type Qcow2Options, validateOptions } from './options.ts';
import { checkL1TableSize, placeParts } from './placement.ts';
import { createMetadataRenderer } from './render.ts';

/** A run of the image, with the origin of its bytes. */
export type Run =
  | { kind: 'metadata' | 'zeros'; imageOffset: number; length: number }
  | { kind: 'data'; imageOffset: number; length: number; sourceOffset: number };

export interface Layout {
  /** True where the image is the file itself, byte for byte. The options have no effect then. */
  readonly isVerbatim?: true;
  readonly options: Qcow2Options;
  readonly map: AllocationMap;
  readonly virtualSizeBytes: number;
  /** Exact, and a whole number of clusters. */
  readonly imageSizeBytes: number;
  /** Metadata lies in front of this offset, data clusters from it on. */
  readonly dataOffset: number;
  /** The runs that make up bytes `start` (inclusive) to `end` (exclusive) of the image, in order and without a gap. */
  runs(start: number, end: number): Iterable<Run>;
  /** Fills `buffer` with the image's bytes from `imageOffset` on. All of them must lie in front of `dataOffset`. */
  renderMetadata(buffer: Uint8Array, imageOffset: number): void;
}

/**
 * @throws DiskliftError `InvalidRequest` for options that do not go together, `ImageTooLarge` for an image that QEMU
 * would refuse.
 */
export function createLayout(map: AllocationMap, options: Qcow2Options): Layout {
  validateOptions(options);
  checkL1TableSize(map.diskSizeBytes, options.clusterSizeBytes);
  const place = placeParts(map, options);
  const { geometry } = place;
  const header = encodeHeader(options, {
    virtualSizeBytes: geometry.virtualSizeBytes,
    l1EntryCount: geometry.l1EntryCount,
    l1TableOffset: geometry.l1EntryCount === 0 ? 0 : place.l1TableOffset,
    refcountTableOffset: place.refcountTableOffset,
    refcountTableClusterCount: (place.refcountBlocksOffset - place.refcountTableOffset) / options.clusterSizeBytes,
  });
  return {
    options,
    map,
    virtualSizeBytes: geometry.virtualSizeBytes,
    imageSizeBytes: place.clusterTotal * options.clusterSizeBytes,
    dataOffset: place.dataOffset,
    runs: (start, end) => runsOf(map, place.dataOffset, start, end),
    renderMetadata: createMetadataRenderer({ map, options, place, header }),
  };
}

function* runsOf(map: AllocationMap, dataOffset: number, start: number, end: number): Generator<Run> {
  if (start >= end) return;
  if (start < dataOffset) yield { kind: 'metadata', imageOffset: start, length: Math.min(end, dataOffset) - start };
  if (end > dataOffset) yield* dataRuns(map, dataOffset, Math.max(start, dataOffset), end);
}

function* dataRuns(map: AllocationMap, dataOffset: number, start: number, end: number): Generator<Run> {
  const { clusterSizeBytes } = map;
  const firstDataCluster = Math.floor((start - dataOffset) / clusterSizeBytes);
  for (const range of map.ranges(map.rangeOfDataCluster(firstDataCluster))) {
    if (range.kind !== 'data') continue;
    const rangeOffset = dataOffset + range.dataClustersBefore * clusterSizeBytes;
    if (rangeOffset >= end) return;
    const sourceStart = range.firstCluster * clusterSizeBytes;
    // The disk's end may cut the last cluster; the image holds it whole, padded with zeros.
    const dataEnd = rangeOffset + bytesOfClusters(map, range.firstCluster, range.clusterCount);
    const paddedEnd = rangeOffset + range.clusterCount * clusterSizeBytes;
    const from = Math.max(start, rangeOffset);
    const dataTo = Math.min(end, dataEnd);
    if (from < dataTo) yield { kind: 'data', imageOffset: from, length: dataTo - from, sourceOffset: sourceStart + (from - rangeOffset) };
    const zerosFrom = Math.max(from, dataEnd);
    const zerosTo = Math.min(end, paddedEnd);
    if (zerosFrom < zerosTo) yield { kind: 'zeros', imageOffset: zerosFrom, length: zerosTo - zerosFrom };
  }
}
