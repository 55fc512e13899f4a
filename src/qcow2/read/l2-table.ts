/** The L2 tables of an image from another program, as runs of entries (qcow2.rst, "L2 table entry"). Pure. */

import { alignDown } from '../../common/bytes.ts';
import { COPIED_FLAG_HIGH, SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { joinHalves } from '../entries.ts';
import { corruptTable, type ForeignImage, l2EntrySizeBytes } from './foreign-image.ts';

/** Clusters that follow each other on the disk and, where they hold data, in the file. */
export interface ClusterRun {
  /** 'unallocated': the backing file supplies the bytes; without a backing file they are zeros. */
  kind: 'unallocated' | 'zero' | 'data' | 'compressed';
  clusterCount: number;
  /** Offset of the first cluster in the file; may be 0 for clusters without data. */
  hostOffset: number;
  /** Length in the file, of one cluster that takes less or more room there; whole sectors for a compressed one. */
  hostLength?: number;
  /** True where subclusters have zero flags. */
  hasZeros?: boolean;
}

export interface L2Table {
  /** The first entries of the table, as many as the disk has clusters there. */
  bytes: Uint8Array;
  /** Offset of the table in the file, for messages. */
  offset: number;
  /** The disk's offset that its first entry maps. */
  guestOffset: number;
}

/** Bit 62: a compressed cluster; the other bits have other meanings then. */
const COMPRESSED_HIGH = 0x40000000;
/** Bits 56 to 61, and 1 to 8. */
const RESERVED_HIGH = 0x3f000000;
const RESERVED_LOW = 0x1fe;
/** Bits 9 to 55. */
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
/** Bit 0: the cluster reads as zeros, even if it has an offset. */
const ZERO_LOW = 1;
const TWO_POW_32 = 2 ** 32;

/** @returns whether the parser continues */
export type OnRun = (run: ClusterRun) => boolean;

/**
 * Parses standard entries; {@link parseExtendedL2Table} parses the others.
 * @param onRun called with the runs in order
 * @returns false when `onRun` returned false
 * @throws DiskliftError `SourceReadError` that names the entry's offset
 */
export function parseL2Table(table: L2Table, image: ForeignImage, onRun: OnRun): boolean {
  const { bytes } = table;
  const { clusterSizeBytes } = image.header;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // In an external data file the first cluster has the offset 0, and only the flag shows that it is allocated.
  const mask = image.dataFileSizeBytes === undefined ? ~COPIED_FLAG_HIGH >>> 0 : 0xffffffff;
  let run: ClusterRun | undefined;
  let [nextHigh, nextLow, stepBytes] = [-1, -1, 0];
  for (let at = 0; at < bytes.length; at += TABLE_ENTRY_SIZE_BYTES) {
    const high = (view.getUint32(at) & mask) >>> 0;
    const low = view.getUint32(at + 4);
    if (run !== undefined && high === nextHigh && low === nextLow) {
      run.clusterCount += 1;
    } else {
      if (run !== undefined && !onRun(run)) return false;
      run = compressedCluster(high, low, clusterSizeBytes);
      if (run !== undefined) {
        // No entry continues a compressed cluster.
        nextHigh = -1;
        continue;
      }
      run = firstOfRun({ high, low, at, table, image });
      stepBytes = run.hostOffset === 0 && run.kind !== 'data' ? 0 : clusterSizeBytes;
      nextHigh = high;
      nextLow = low;
    }
    nextLow += stepBytes;
    if (nextLow >= TWO_POW_32) {
      nextLow -= TWO_POW_32;
      nextHigh += 1;
    }
  }
  return run === undefined || onRun(run);
}

/**
 * qcow2.rst, "Compressed Clusters Descriptor": the more bits a cluster's size has, the fewer are left for its offset.
 * @returns undefined for an entry of another kind
 */
function compressedCluster(high: number, low: number, clusterSizeBytes: number): ClusterRun | undefined {
  if ((high & COMPRESSED_HIGH) === 0) return undefined;
  const offsetBitsHigh = 62 - (Math.log2(clusterSizeBytes) - 8) - 32;
  const hostOffset = joinHalves(high & (2 ** offsetBitsHigh - 1), low);
  const moreSectors = (high & (COMPRESSED_HIGH - 1)) >>> offsetBitsHigh;
  const end = alignDown(hostOffset, SECTOR_SIZE_BYTES) + (1 + moreSectors) * SECTOR_SIZE_BYTES;
  return { kind: 'compressed', clusterCount: 1, hostOffset, hostLength: end - hostOffset };
}

interface Entry {
  high: number;
  low: number;
  /** In the table. */
  at: number;
  table: L2Table;
  image: ForeignImage;
}

function firstOfRun({ high, low, at, table, image }: Entry): ClusterRun {
  const { name, header, dataFileSizeBytes } = image;
  const corrupt = (why: string) => corruptTable(name, table.offset + at, why);
  if ((high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0) throw corrupt('has an entry with bits that are not known');
  const isZero = (low & ZERO_LOW) !== 0;
  if (isZero && header.version === 2) throw corrupt('has a cluster of zeros, which version 2 does not know');
  const hostOffset = joinHalves(high & OFFSET_HIGH, (low & OFFSET_LOW) >>> 0);
  if (hostOffset % header.clusterSizeBytes !== 0) throw corrupt(`names ${hostOffset}, which is not the beginning of a cluster`);
  if (isZero) return { kind: 'zero', clusterCount: 1, hostOffset };
  const isData = hostOffset !== 0 || (dataFileSizeBytes !== undefined && (high & COPIED_FLAG_HIGH) !== 0);
  if (!isData) return { kind: 'unallocated', clusterCount: 1, hostOffset };
  const guestOffset = table.guestOffset + (at / TABLE_ENTRY_SIZE_BYTES) * header.clusterSizeBytes;
  if (dataFileSizeBytes !== undefined && hostOffset !== guestOffset)
    throw corrupt(`names ${hostOffset} of the data file for ${guestOffset} of the disk`);
  return { kind: 'data', clusterCount: 1, hostOffset };
}

/** Bits 56 to 62, and 0 to 8: the bitmap has the zero flags. */
const EXTENDED_RESERVED_HIGH = 0x7f000000;
const EXTENDED_RESERVED_LOW = 0x1ff;
const SUBCLUSTER_COUNT = 32;

/**
 * Parses extended entries: a standard entry and a bitmap of its 32 subclusters (qcow2.rst, "Extended L2 Entries"). A
 * run of data states its length in the file, but not which subclusters are zeros or lie in the backing file.
 * @param onRun called with the clusters in order, each a run of its own; clusters without data are 'unallocated'
 * @returns false when `onRun` returned false
 * @throws DiskliftError `SourceReadError` that names the entry's offset
 */
export function parseExtendedL2Table(table: L2Table, image: ForeignImage, onRun: OnRun): boolean {
  const { bytes } = table;
  const { clusterSizeBytes } = image.header;
  const entrySizeBytes = l2EntrySizeBytes(image.header);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; at += entrySizeBytes) {
    const [high, low] = [(view.getUint32(at) & ~COPIED_FLAG_HIGH) >>> 0, view.getUint32(at + 4)];
    const allocated = view.getUint32(at + 12); // bits 0 to 31 of the bitmap
    const run = compressedCluster(high, low, clusterSizeBytes) ?? runOf({ high, low, allocated, offset: table.offset + at });
    // Bits 32 to 63 of the bitmap; a compressed cluster does not use them.
    const hasZeros = run.kind !== 'compressed' && view.getUint32(at + 8) !== 0;
    if (!onRun(hasZeros ? { ...run, hasZeros } : run)) return false;
  }
  return true;

  function runOf({ high, low, allocated, offset }: { high: number; low: number; allocated: number; offset: number }): ClusterRun {
    const corrupt = (why: string) => corruptTable(image.name, offset, why);
    if ((high & EXTENDED_RESERVED_HIGH) !== 0 || (low & EXTENDED_RESERVED_LOW) !== 0)
      throw corrupt('has an entry with bits that are not known');
    const hostOffset = joinHalves(high & OFFSET_HIGH, low);
    if (hostOffset % clusterSizeBytes !== 0) throw corrupt(`names ${hostOffset}, which is not the beginning of a cluster`);
    if (allocated === 0) return { kind: 'unallocated', clusterCount: 1, hostOffset };
    if (hostOffset === 0 && image.dataFileSizeBytes === undefined) throw corrupt('has allocated what it has no place for');
    const count = SUBCLUSTER_COUNT - Math.clz32(allocated);
    return { kind: 'data', clusterCount: 1, hostOffset, hostLength: (count * clusterSizeBytes) / SUBCLUSTER_COUNT };
  }
}
