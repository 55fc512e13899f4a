/** The L2 tables of an image that somebody else has written, by runs of entries (qcow2.rst, "L2 table entry"). Pure. */

import { alignDown } from '../../common/bytes.ts';
import { COPIED_FLAG_HIGH, SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { joinHalves } from '../entries.ts';
import { corruptTable, type ForeignImage } from '../read/foreign-image.ts';

/** Clusters that follow each other on the disk and, where they hold data, in the file. */
export interface ClusterRun {
  /** 'unallocated': whatever the backing file has; zeros where there is none. */
  kind: 'unallocated' | 'zero' | 'data' | 'compressed';
  clusterCount: number;
  /** Where the first lies in the file; of clusters that hold no data it may be 0. */
  hostOffset: number;
  /** Of one cluster that takes less or more room in the file; compressed ones are told by whole sectors. */
  hostLength?: number;
  /** True where subclusters have zero flags. */
  hasZeros?: boolean;
}

export interface L2Table {
  /** The table from its beginning; as many entries as the disk has clusters there, which need not be all. */
  bytes: Uint8Array;
  /** Where it lies in the file, for messages. */
  offset: number;
  /** The disk's offset that its first entry maps. */
  guestOffset: number;
}

/** Bit 62: a compressed cluster, whose other bits mean something else. */
const COMPRESSED_HIGH = 0x40000000;
/** Bits 56 to 61, and 1 to 8. */
const RESERVED_HIGH = 0x3f000000;
const RESERVED_LOW = 0x1fe;
/** Bits 9 to 55. */
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
/** Bit 0: reads as zeros, whatever lies at the offset. */
const ZERO_LOW = 1;
const TWO_POW_32 = 2 ** 32;

/** @returns whether to go on */
export type OnRun = (run: ClusterRun) => boolean;

/**
 * Standard entries; {@link parseExtendedL2Table} has the others.
 * @param onRun called with the runs in order
 * @returns false when that wanted no more
 * @throws DiskliftError `SourceReadError` that names the entry's offset
 */
export function parseL2Table(table: L2Table, image: ForeignImage, onRun: OnRun): boolean {
  const { bytes } = table;
  const { clusterSizeBytes } = image.header;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // In an external data file the first cluster has the offset 0, and only the flag tells that it is there.
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
        // Its neighbour's entry is never what would go on from it.
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
export function compressedCluster(high: number, low: number, clusterSizeBytes: number): ClusterRun | undefined {
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
