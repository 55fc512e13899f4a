/** Renders the metadata at any offset and on demand, so that no table is in memory as a whole. */

import { TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { writeCopiedOffsets, writeOffset, writeZeroEntries } from '../entries.ts';
import type { AllocationMap } from './allocation-map.ts';
import { needsEntry, tablesTouched } from './geometry.ts';
import type { Qcow2Options } from './options.ts';
import type { Placement } from './placement.ts';

export interface RenderInput {
  map: AllocationMap;
  options: Qcow2Options;
  place: Placement;
  header: Uint8Array;
}

/**
 * A part of the metadata. `render` fills `bytes`, which are zeros, with what lies at `offset` in the part; both are
 * multiples of 8.
 */
interface Part {
  imageOffset: number;
  render(bytes: Uint8Array, offset: number): void;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function createMetadataRenderer(input: RenderInput): (buffer: Uint8Array, imageOffset: number) => void {
  const { place } = input;
  const parts: Part[] = [
    { imageOffset: 0, render: (bytes, offset) => bytes.set(input.header.subarray(offset, offset + bytes.length)) },
    { imageOffset: place.refcountTableOffset, render: (bytes, offset) => renderRefcountTable(input, bytes, offset) },
    { imageOffset: place.refcountBlocksOffset, render: (bytes, offset) => renderRefcountBlocks(input, bytes, offset) },
    { imageOffset: place.l1TableOffset, render: (bytes, offset) => renderL1Table(input, bytes, offset) },
    { imageOffset: place.l2TablesOffset, render: (bytes, offset) => renderL2Tables(input, bytes, offset) },
  ];

  function renderAligned(bytes: Uint8Array, imageOffset: number): void {
    bytes.fill(0);
    const end = imageOffset + bytes.length;
    parts.forEach((part, index) => {
      const partEnd = parts[index + 1]?.imageOffset ?? place.dataOffset;
      const from = Math.max(imageOffset, part.imageOffset);
      const to = Math.min(end, partEnd);
      if (from < to) part.render(bytes.subarray(from - imageOffset, to - imageOffset), from - part.imageOffset);
    });
  }

  return (buffer, imageOffset) => {
    const end = imageOffset + buffer.length;
    if (imageOffset < 0 || end > place.dataOffset) throw new RangeError(`bytes ${imageOffset}..${end} are not all metadata`);
    // An entry that `buffer` holds a part of, at either end, is rendered whole aside.
    const entry = new Uint8Array(TABLE_ENTRY_SIZE_BYTES);
    let at = imageOffset;
    while (at < end) {
      const within = at % TABLE_ENTRY_SIZE_BYTES;
      const wholeLength = end - at - ((end - at) % TABLE_ENTRY_SIZE_BYTES);
      if (within === 0 && wholeLength > 0) {
        renderAligned(buffer.subarray(at - imageOffset, at - imageOffset + wholeLength), at);
        at += wholeLength;
      } else {
        const length = Math.min(TABLE_ENTRY_SIZE_BYTES - within, end - at);
        renderAligned(entry, at - within);
        buffer.set(entry.subarray(within, within + length), at - imageOffset);
        at += length;
      }
    }
  };
}

/** Entry i: the offset of refcount block i. */
function renderRefcountTable({ options, place }: RenderInput, bytes: Uint8Array, offset: number): void {
  const view = viewOf(bytes);
  const first = offset / TABLE_ENTRY_SIZE_BYTES;
  const end = Math.min(first + bytes.length / TABLE_ENTRY_SIZE_BYTES, place.refcountBlockCount);
  for (let index = first; index < end; index += 1)
    writeOffset(view, (index - first) * TABLE_ENTRY_SIZE_BYTES, place.refcountBlocksOffset + index * options.clusterSizeBytes);
}

/** Every cluster of the image is used once, so all refcounts are 1; behind the last cluster they are 0. */
function renderRefcountBlocks({ options, place }: RenderInput, bytes: Uint8Array, offset: number): void {
  const { refcountBits } = options;
  const usedBits = Math.min(place.clusterTotal * refcountBits - offset * 8, bytes.length * 8);
  if (usedBits <= 0) return;
  const usedBytes = Math.floor(usedBits / 8);
  if (refcountBits >= 8) {
    const width = refcountBits / 8;
    for (let at = width - 1; at < usedBytes; at += width) bytes[at] = 1;
    return;
  }
  // Narrow refcounts share a byte, the first in its lowest bits.
  let pattern = 0;
  for (let bit = 0; bit < 8; bit += refcountBits) pattern |= 1 << bit;
  bytes.fill(pattern, 0, usedBytes);
  const restBits = usedBits % 8;
  if (restBits > 0) bytes[usedBytes] = pattern & ((1 << restBits) - 1);
}

/** Entry i: the offset of the L2 table for that part of the disk, or 0 where no cluster needs an entry. */
function renderL1Table({ map, options, place }: RenderInput, bytes: Uint8Array, offset: number): void {
  const { l2EntriesPerTable, l1EntryCount } = place.geometry;
  const first = offset / TABLE_ENTRY_SIZE_BYTES;
  const end = Math.min(first + bytes.length / TABLE_ENTRY_SIZE_BYTES, l1EntryCount);
  if (first >= end) return;
  const view = viewOf(bytes);
  let rangeIndex = map.rangeOfCluster(first * l2EntriesPerTable);
  for (const range of map.ranges(rangeIndex)) {
    const [firstTouched, last] = tablesTouched(range, l2EntriesPerTable);
    if (firstTouched >= end) return;
    if (needsEntry(range.kind, options)) {
      const from = Math.max(firstTouched, first);
      const count = Math.min(last + 1, end) - from;
      const table = place.tables.lastTableOf(rangeIndex) - (last - from);
      const hostOffset = place.l2TablesOffset + table * options.clusterSizeBytes;
      writeCopiedOffsets(view, (from - first) * TABLE_ENTRY_SIZE_BYTES, count, hostOffset, options.clusterSizeBytes);
    }
    rangeIndex += 1;
  }
}

/** Only tables that exist are in the image, one cluster each, in the order of the L1 table. */
function renderL2Tables(input: RenderInput, bytes: Uint8Array, offset: number): void {
  const { clusterSizeBytes } = input.options;
  const end = offset + bytes.length;
  for (let table = Math.floor(offset / clusterSizeBytes); table * clusterSizeBytes < end; table += 1) {
    const tableOffset = table * clusterSizeBytes;
    const from = Math.max(offset, tableOffset);
    const to = Math.min(end, tableOffset + clusterSizeBytes);
    renderL2Entries(input, bytes.subarray(from - offset, to - offset), input.place.tables.l1IndexOf(table), from - tableOffset);
  }
}

/**
 * Entry i: the host offset of the guest cluster. In a data file the two offsets are the same. Without a backing file, 0
 * is a cluster of zeros. With one, 0 is unchanged, and a cluster of zeros has the zero flag.
 */
function renderL2Entries({ map, options, place }: RenderInput, bytes: Uint8Array, l1Index: number, offset: number): void {
  const { clusterSizeBytes } = options;
  const firstCluster = l1Index * place.geometry.l2EntriesPerTable + offset / TABLE_ENTRY_SIZE_BYTES;
  const endCluster = Math.min(firstCluster + bytes.length / TABLE_ENTRY_SIZE_BYTES, map.clusters.total);
  if (firstCluster >= endCluster) return;
  const view = viewOf(bytes);
  for (const range of map.ranges(map.rangeOfCluster(firstCluster))) {
    if (range.firstCluster >= endCluster) return;
    if (!needsEntry(range.kind, options)) continue;
    const from = Math.max(range.firstCluster, firstCluster);
    const count = Math.min(range.firstCluster + range.clusterCount, endCluster) - from;
    const entryAt = (from - firstCluster) * TABLE_ENTRY_SIZE_BYTES;
    if (range.kind !== 'data') {
      writeZeroEntries(view, entryAt, count);
      continue;
    }
    const dataCluster = range.dataClustersBefore + (from - range.firstCluster);
    const hostOffset = options.dataFile === undefined ? place.dataOffset + dataCluster * clusterSizeBytes : from * clusterSizeBytes;
    writeCopiedOffsets(view, entryAt, count, hostOffset, clusterSizeBytes);
  }
}
