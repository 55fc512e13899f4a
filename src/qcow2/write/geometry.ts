/** Counts of clusters and tables that follow from the sizes of a disk and its clusters, and from the allocation map. */

import { alignUp } from '../../common/bytes.ts';
import { countNotAbove } from '../../common/columns.ts';
import { SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import type { AllocationMap, ClusterKind, ClusterRange } from './allocation-map.ts';
import type { Qcow2Options } from './options.ts';

export interface Geometry {
  /** The guest's view: the disk's size rounded up to whole sectors, because QEMU would truncate it. */
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

/**
 * Whether a cluster needs an L2 entry. Without a backing file, a cluster without an entry reads as zeros. With one, it
 * reads as the backing file, so that zeros need an entry.
 */
export function needsEntry(kind: ClusterKind, { backingFile }: Pick<Qcow2Options, 'backingFile'>): boolean {
  return backingFile === undefined ? kind === 'data' : kind !== 'unchanged';
}

/** The L2 tables of an image. A table exists when a cluster with an entry lies in the part of the disk that it maps. */
export interface TableIndex {
  /** Number of L2 tables that exist. */
  readonly tableCount: number;
  /** Number, among existing tables, of the last table that the range at `rangeIndex`, which needs entries, lies in. */
  lastTableOf(rangeIndex: number): number;
  /** The L1 index of existing table number `table` (0 <= table < tableCount). Binary search. */
  l1IndexOf(table: number): number;
}

/** The L1 indexes of the first and the last table that a range touches. */
export function tablesTouched(range: ClusterRange, entriesPerTable: number): [first: number, last: number] {
  const first = Math.floor(range.firstCluster / entriesPerTable);
  return [first, Math.floor((range.firstCluster + range.clusterCount - 1) / entriesPerTable)];
}

/** Builds the index in one pass over the ranges: one column of 8 bytes a range. */
export function createTableIndex(map: AllocationMap, entriesPerTable: number, options: Pick<Qcow2Options, 'backingFile'>): TableIndex {
  // tablesThrough[i]: tables that exist because of ranges 0..i. Two ranges may share one, which counts once.
  const tablesThrough = new Float64Array(map.rangeCount);
  let tableCount = 0;
  let lastL1Index = -1;
  let index = 0;
  for (const range of map.ranges()) {
    if (needsEntry(range.kind, options)) {
      const [first, last] = tablesTouched(range, entriesPerTable);
      tableCount += last - first + (first === lastL1Index ? 0 : 1);
      lastL1Index = last;
    }
    tablesThrough[index] = tableCount;
    index += 1;
  }

  /** The range that brought the table: the first one through which more than `table` tables exist. */
  const rangeOfTable = (table: number) => countNotAbove(tablesThrough, table);

  return {
    tableCount,
    lastTableOf: (rangeIndex) => (tablesThrough[rangeIndex] as number) - 1,
    l1IndexOf(table) {
      const rangeIndex = rangeOfTable(table);
      const [, last] = tablesTouched(map.rangeAt(rangeIndex), entriesPerTable);
      return last - ((tablesThrough[rangeIndex] as number) - 1 - table);
    },
  };
}

export interface RefcountCounts {
  blockCount: number;
  tableClusterCount: number;
}

/**
 * The smallest refcount table and blocks that cover `otherClusterCount` clusters and themselves (the same result as
 * QEMU's qcow2_refcount_metadata_size). Grows from below, so the first counts that hold are the least.
 */
export function refcountCounts(otherClusterCount: number, clusterSizeBytes: number, refcountBits: number): RefcountCounts {
  const refcountsPerBlock = (clusterSizeBytes * 8) / refcountBits;
  const entriesPerTableCluster = clusterSizeBytes / TABLE_ENTRY_SIZE_BYTES;
  let blockCount = 0;
  let tableClusterCount = 0;
  for (;;) {
    const nextBlockCount = Math.ceil((otherClusterCount + blockCount + tableClusterCount) / refcountsPerBlock);
    const nextTableClusterCount = Math.ceil(nextBlockCount / entriesPerTableCluster);
    if (nextBlockCount === blockCount && nextTableClusterCount === tableClusterCount) return { blockCount, tableClusterCount };
    blockCount = nextBlockCount;
    tableClusterCount = nextTableClusterCount;
  }
}
