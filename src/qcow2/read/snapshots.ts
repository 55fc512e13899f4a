/** Tables that keep other states of an image: internal snapshots and persistent bitmaps (qcow2.rst). Pure. */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';
import { TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { joinHalves } from '../entries.ts';

/** A table in the file. */
export interface TablePlace {
  offset: number;
  entryCount: number;
}

/** An entry of a directory, and where the next one begins. */
interface Entry {
  table: TablePlace;
  end: number;
}

interface BitmapEntry extends Entry {
  name: string;
  /** Set while a program has the image open for writing, and left behind where that program did not end in order. */
  isInUse: boolean;
  /** Whether QEMU records writes in it. */
  isRecording: boolean;
  granularityBytes: number;
}

const SNAPSHOT_FIXED_BYTES = 40;
const BITMAP_FIXED_BYTES = 24;
const DIRTY_TRACKING_BITMAP = 1;
/** in_use, auto, extra_data_compatible */
const BITMAP_FLAGS = 7;
const BITMAP_IN_USE = 1;
const BITMAP_AUTO = 2;
const BITMAP_GRANULARITY_BITS = [9, 31] as const;
const MAX_BITMAP_NAME_BYTES = 1023;

/** The longest entry: a name of 64 KiB, an id of 64 KiB, and extra data of 1 KiB, which is QEMU's limit. */
export const MAX_SNAPSHOT_ENTRY_BYTES = 2 * 65_536 + 1024 + SNAPSHOT_FIXED_BYTES;

/**
 * @param at of an entry of the snapshot table in `bytes`
 * @returns the snapshot's L1 table
 * @throws DiskliftError `FormatUnsupported` for an entry that the bytes do not hold whole
 */
export function parseSnapshot(bytes: Uint8Array, at: number, name: string): Entry {
  const view = boundedView({ bytes, name });
  const length = SNAPSHOT_FIXED_BYTES + view.u32(at + 36) + view.u16(at + 12) + view.u16(at + 14); // extra data, id, name
  if (at + length > bytes.length) throw view.refuse('has a snapshot whose entry is too long');
  return { table: { offset: view.u64(at), entryCount: view.u32(at + 8) }, end: at + alignUp(length, 8) };
}

/**
 * @param at of an entry of the bitmap directory in `bytes`
 * @returns the bitmap and its table
 * @throws DiskliftError `FormatUnsupported` for an entry that the bytes do not hold whole
 */
export function parseBitmap(bytes: Uint8Array, at: number, name: string): BitmapEntry {
  const view = boundedView({ bytes, name });
  const [nameLength, extraLength] = [view.u16(at + 18), view.u32(at + 20)];
  const length = BITMAP_FIXED_BYTES + nameLength + extraLength;
  if (at + length > bytes.length) throw view.refuse('has a bitmap whose entry is too long');
  const [flags, type, granularityBits] = [view.u32(at + 12), view.u8(at + 16), view.u8(at + 17)];
  const isKnown = type === DIRTY_TRACKING_BITMAP && (flags & ~BITMAP_FLAGS) === 0 && extraLength === 0;
  const [minBits, maxBits] = BITMAP_GRANULARITY_BITS;
  if (!isKnown || nameLength === 0 || nameLength > MAX_BITMAP_NAME_BYTES || granularityBits < minBits || granularityBits > maxBits)
    throw view.refuse(`has a bitmap whose entry at byte ${at} breaks the rules of the format`);
  return {
    table: { offset: view.u64(at), entryCount: view.u32(at + 8) },
    end: at + alignUp(length, 8),
    name: view.text(at + BITMAP_FIXED_BYTES, nameLength),
    isInUse: (flags & BITMAP_IN_USE) !== 0,
    isRecording: (flags & BITMAP_AUTO) !== 0,
    granularityBytes: 2 ** granularityBits,
  };
}

/** @returns the number of clusters that the bitmap of a disk takes */
export function bitmapClusterCount(diskSizeBytes: number, granularityBytes: number, clusterSizeBytes: number): number {
  return Math.ceil(Math.ceil(diskSizeBytes / granularityBytes) / 8 / clusterSizeBytes);
}

/** Bits 56 to 63, and 1 to 8 */
const RESERVED_HIGH = 0xff000000;
const RESERVED_LOW = 0x1fe;
/** Bits 9 to 55 */
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;

export interface BitmapTableVisitor {
  /** Called for each cluster of the bitmap that exists; the others are all zeros or all ones. */
  onCluster(hostOffset: number): void;
  /** @param at of the wrong entry in the table's bytes */
  onProblem(at: number): void;
}

export function visitBitmapTable(bytes: Uint8Array, clusterSizeBytes: number, { onCluster, onProblem }: BitmapTableVisitor): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + TABLE_ENTRY_SIZE_BYTES <= bytes.length; at += TABLE_ENTRY_SIZE_BYTES) {
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    const hostOffset = joinHalves(high & OFFSET_HIGH, (low & OFFSET_LOW) >>> 0);
    const isOnesWithPlace = hostOffset !== 0 && (low & 1) !== 0;
    if ((high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0 || isOnesWithPlace || hostOffset % clusterSizeBytes !== 0) onProblem(at);
    if (hostOffset !== 0) onCluster(hostOffset);
  }
}
