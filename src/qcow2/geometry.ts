/** Counts and sizes that follow from a disk's size and a cluster size alone. */

import { alignUp } from '../common/bytes.ts';
import { SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from './constants.ts';

export interface Geometry {
  /** What the guest sees: the disk's size rounded up to whole sectors, or QEMU would cut the tail off. */
  virtualSizeBytes: number;
  clusterSizeBytes: number;
  /** Guest clusters, the last one possibly cut by the disk's end. */
  clusterCount: number;
  /** Entries of an L2 table, which is always one cluster. */
  l2EntriesPerTable: number;
  l1EntryCount: number;
  l1ClusterCount: number;
}

export function geometryOf(diskSizeBytes: number, clusterSizeBytes: number): Geometry {
  const virtualSizeBytes = alignUp(diskSizeBytes, SECTOR_SIZE_BYTES);
  const entriesPerCluster = clusterSizeBytes / TABLE_ENTRY_SIZE_BYTES;
  const clusterCount = Math.ceil(virtualSizeBytes / clusterSizeBytes);
  const l1EntryCount = Math.ceil(clusterCount / entriesPerCluster);
  return {
    virtualSizeBytes,
    clusterSizeBytes,
    clusterCount,
    l2EntriesPerTable: entriesPerCluster,
    l1EntryCount,
    l1ClusterCount: Math.ceil(l1EntryCount / entriesPerCluster),
  };
}
