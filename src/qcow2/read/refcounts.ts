/** Refcounts of an image from another program, and the counts that they are compared with (qcow2.rst). Pure. */

import { TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { joinHalves } from '../entries.ts';

/** Larger counts are kept as this, which only an image with tens of thousands of snapshots has. */
const MAX_KEPT_COUNT = 0xffff;

/** Counts for clusters `first` to `first + length`, in a column of two bytes each. */
export interface CountWindow {
  first: number;
  counts: Uint16Array;
}

/** Adds `times` to the count of every cluster of the range that lies in the window. */
export function addReferences({ first, counts }: CountWindow, { start, end }: { start: number; end: number }, times = 1): void {
  const to = Math.min(end - first, counts.length);
  for (let index = Math.max(0, start - first); index < to; index += 1)
    counts[index] = Math.min(MAX_KEPT_COUNT, (counts[index] as number) + times);
}

/** @returns the refcounts of a block, each at most {@link MAX_KEPT_COUNT} */
export function parseRefcountBlock(bytes: Uint8Array, refcountBits: number): Uint16Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const counts = new Uint16Array((bytes.length * 8) / refcountBits);
  const read = readerOf(view, refcountBits);
  for (let index = 0; index < counts.length; index += 1) counts[index] = Math.min(MAX_KEPT_COUNT, read(index));
  return counts;
}

/** Narrow refcounts begin at the lowest bit of a byte; wide ones are big-endian. */
function readerOf(view: DataView, bits: number): (index: number) => number {
  if (bits < 8) {
    const [perByte, mask] = [8 / bits, 2 ** bits - 1];
    return (index) => (view.getUint8(Math.floor(index / perByte)) >> ((index % perByte) * bits)) & mask;
  }
  if (bits === 8) return (index) => view.getUint8(index);
  if (bits === 16) return (index) => view.getUint16(2 * index);
  if (bits === 32) return (index) => view.getUint32(4 * index);
  return (index) => (view.getUint32(8 * index) === 0 ? view.getUint32(8 * index + 4) : MAX_KEPT_COUNT);
}

/** Bits 0 to 8. */
const RESERVED_LOW = 0x1ff;

/**
 * @param onEntry receives the index of an entry, and the offset of its block or undefined where that is not the
 * beginning of a cluster
 */
export function visitRefcountTable(
  bytes: Uint8Array,
  clusterSizeBytes: number,
  onEntry: (index: number, blockOffset: number, isAligned: boolean) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + TABLE_ENTRY_SIZE_BYTES <= bytes.length; at += TABLE_ENTRY_SIZE_BYTES) {
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    if (high === 0 && low === 0) continue;
    const offset = joinHalves(high, low);
    onEntry(at / TABLE_ENTRY_SIZE_BYTES, offset, (low & RESERVED_LOW) === 0 && offset % clusterSizeBytes === 0);
  }
}
