/** The 64-bit big-endian words of L1, L2 and refcount tables. Nothing else handles halves of a word. */

import { COPIED_FLAG_HIGH, TABLE_ENTRY_SIZE_BYTES, ZERO_FLAG_LOW } from './constants.ts';

const TWO_POW_32 = 2 ** 32;

/** Writes a host offset (bits 9-55, cluster aligned) with no flag: an entry of the refcount table. */
export function writeOffset(view: DataView, at: number, hostOffset: number): void {
  view.setUint32(at, Math.floor(hostOffset / TWO_POW_32));
  view.setUint32(at + 4, hostOffset % TWO_POW_32);
}

/**
 * Writes `count` entries from byte `at` on, the first for `hostOffset`, each next one for `strideBytes` more, all with
 * the COPIED flag (bit 63): the cluster that they point to has a refcount of exactly one.
 */
export function writeCopiedOffsets(view: DataView, at: number, count: number, hostOffset: number, strideBytes: number): void {
  let high = Math.floor(hostOffset / TWO_POW_32) + COPIED_FLAG_HIGH;
  let low = hostOffset % TWO_POW_32;
  const end = at + count * TABLE_ENTRY_SIZE_BYTES;
  for (let position = at; position < end; position += TABLE_ENTRY_SIZE_BYTES) {
    view.setUint32(position, high);
    view.setUint32(position + 4, low);
    low += strideBytes;
    if (low >= TWO_POW_32) {
      low -= TWO_POW_32;
      high += 1;
    }
  }
}

/** Writes `count` L2 entries of clusters that read as zeros and have no host cluster. */
export function writeZeroEntries(view: DataView, at: number, count: number): void {
  const end = at + count * TABLE_ENTRY_SIZE_BYTES;
  for (let position = at; position < end; position += TABLE_ENTRY_SIZE_BYTES) {
    view.setUint32(position, 0);
    view.setUint32(position + 4, ZERO_FLAG_LOW);
  }
}

/** The number that an entry's halves make; exact below 2^53. */
export function joinHalves(high: number, low: number): number {
  return high * TWO_POW_32 + low;
}
