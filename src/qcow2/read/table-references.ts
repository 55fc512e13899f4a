/**
 * The clusters that L1 and L2 tables refer to, for a check that goes on behind a wrong entry. Readers of the disk use
 * the strict parsers instead. Pure.
 */

import { alignDown } from '../../common/bytes.ts';
import { COPIED_FLAG_HIGH, SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { joinHalves } from '../entries.ts';
import { l2EntrySizeBytes } from './foreign-image.ts';
import type { Qcow2Header } from './parse-header.ts';

export interface EntryProblem {
  /** Offset of the entry in the file. */
  offset: number;
  /** Continues "its entry at offset N". */
  why: string;
  /** First byte of the disk that the entry maps; undefined where it maps none. */
  guestOffset?: number | undefined;
}

export interface EntryVisitor {
  /**
   * Called for each entry with a place in the file.
   * @param length in the file, in bytes
   * @param copied the COPIED flag; undefined for an entry that never has it
   */
  refer(hostOffset: number, length: number, place: { offset: number; guestOffset: number | undefined; copied: boolean | undefined }): void;
  problem(problem: EntryProblem): void;
}

/** Bits 56 to 62, and 0 to 8. */
const L1_RESERVED_HIGH = 0x7f000000;
const L1_RESERVED_LOW = 0x1ff;
/** Bits 9 to 55. */
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;

/**
 * @param offset of the first entry in the file
 * @param onEntry receives the index among `bytes`, the place of an L2 table and the COPIED flag
 */
export function visitL1Table(
  bytes: Uint8Array,
  { offset, clusterSizeBytes }: { offset: number; clusterSizeBytes: number },
  onEntry: (index: number, l2Offset: number, copied: boolean) => void,
  onProblem: (problem: EntryProblem) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + TABLE_ENTRY_SIZE_BYTES <= bytes.length; at += TABLE_ENTRY_SIZE_BYTES) {
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    if (high === 0 && low === 0) continue;
    if ((high & L1_RESERVED_HIGH) !== 0 || (low & L1_RESERVED_LOW) !== 0)
      onProblem({ offset: offset + at, why: 'has bits that are not known' });
    const l2Offset = joinHalves(high & OFFSET_HIGH, (low & OFFSET_LOW) >>> 0);
    if (l2Offset === 0) continue;
    if (l2Offset % clusterSizeBytes !== 0)
      onProblem({ offset: offset + at, why: `names ${l2Offset}, which is not the beginning of a cluster` });
    else onEntry(at / TABLE_ENTRY_SIZE_BYTES, l2Offset, (high & COPIED_FLAG_HIGH) !== 0);
  }
}

/** Bit 62 */
const COMPRESSED_HIGH = 0x40000000;
const L2_RESERVED_HIGH = 0x3f000000;
const L2_RESERVED_LOW = 0x1fe;
const ZERO_LOW = 1;

export interface VisitedTable {
  bytes: Uint8Array;
  /** Offset of the table in the file. */
  offset: number;
  /** The disk's offset that the first entry maps; undefined for a table of a snapshot. */
  guestOffset: number | undefined;
}

/** Visits all entries of an L2 table, standard or extended. */
export function visitL2Table({ bytes, offset, guestOffset }: VisitedTable, header: Qcow2Header, { refer, problem }: EntryVisitor): void {
  const { clusterSizeBytes, hasExtendedL2, version } = header;
  const hasDataFile = header.dataFile !== undefined;
  const entrySizeBytes = l2EntrySizeBytes(header);
  const offsetBitsHigh = 62 - (Math.log2(clusterSizeBytes) - 8) - 32;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + entrySizeBytes <= bytes.length; at += entrySizeBytes) {
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    const [zeros, allocated] = hasExtendedL2 ? [view.getUint32(at + 8), view.getUint32(at + 12)] : [0, 0];
    if (high === 0 && low === 0 && zeros === 0 && allocated === 0) continue;
    const guest = guestOffset === undefined ? undefined : guestOffset + (at / entrySizeBytes) * clusterSizeBytes;
    const wrong = (why: string) => problem({ offset: offset + at, why, guestOffset: guest });
    const copied = (high & COPIED_FLAG_HIGH) !== 0;
    if ((high & COMPRESSED_HIGH) !== 0) {
      if (hasDataFile) wrong('is compressed, in an image whose data is in another file');
      if (copied) wrong('is compressed and has the COPIED flag');
      if (zeros !== 0 || allocated !== 0) wrong('is compressed and has subclusters');
      const hostOffset = joinHalves(high & (2 ** offsetBitsHigh - 1), low);
      const sectors = 1 + ((high & (COMPRESSED_HIGH - 1)) >>> offsetBitsHigh);
      const end = alignDown(hostOffset, SECTOR_SIZE_BYTES) + sectors * SECTOR_SIZE_BYTES;
      refer(hostOffset, end - hostOffset, { offset: offset + at, guestOffset: guest, copied: undefined });
      continue;
    }
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & (hasExtendedL2 ? L1_RESERVED_LOW : L2_RESERVED_LOW)) !== 0)
      wrong('has bits that are not known');
    if (version === 2 && (low & ZERO_LOW) !== 0) wrong('has the zero flag, which version 2 does not know');
    if ((zeros & allocated) !== 0) wrong('has a subcluster that is both data and zeros');
    const hostOffset = joinHalves(high & OFFSET_HIGH, (low & OFFSET_LOW) >>> 0);
    if (hostOffset === 0 && allocated !== 0 && !hasDataFile) wrong('has subclusters of data and no place for them');
    if (hostOffset % clusterSizeBytes !== 0) wrong(`names ${hostOffset}, which is not the beginning of a cluster`);
    else if (hostOffset !== 0 && !hasDataFile) refer(hostOffset, clusterSizeBytes, { offset: offset + at, guestOffset: guest, copied });
  }
}
