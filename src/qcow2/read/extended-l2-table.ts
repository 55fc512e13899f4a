/** L2 tables with extended entries: a standard one and a bitmap of its 32 subclusters (qcow2.rst, "Extended L2 Entries"). Pure. */

import { COPIED_FLAG_HIGH } from '../constants.ts';
import { joinHalves } from '../entries.ts';
import { type ClusterRun, compressedCluster, type L2Table, type OnRun } from '../write/l2-table.ts';
import { corruptTable, type ForeignImage, l2EntrySizeBytes } from './foreign-image.ts';

/** Bits 56 to 62, and 0 to 8: zeros are told by the bitmap. */
const RESERVED_HIGH = 0x7f000000;
const RESERVED_LOW = 0x1ff;
const OFFSET_HIGH = 0x00ffffff;
const SUBCLUSTER_COUNT = 32;

/**
 * Of a cluster that holds data is told how far that goes in the file, not which parts of it are zeros or the backing file's.
 * @param onRun called with the clusters in order, each a run of its own; 'unallocated' are those without data
 * @returns false when that wanted no more
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
    if ((high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0) throw corrupt('has an entry with bits that are not known');
    const hostOffset = joinHalves(high & OFFSET_HIGH, low);
    if (hostOffset % clusterSizeBytes !== 0) throw corrupt(`names ${hostOffset}, which is not the beginning of a cluster`);
    if (allocated === 0) return { kind: 'unallocated', clusterCount: 1, hostOffset };
    if (hostOffset === 0 && image.dataFileSizeBytes === undefined) throw corrupt('has allocated what it has no place for');
    const count = SUBCLUSTER_COUNT - Math.clz32(allocated);
    return { kind: 'data', clusterCount: 1, hostOffset, hostLength: (count * clusterSizeBytes) / SUBCLUSTER_COUNT };
  }
}
