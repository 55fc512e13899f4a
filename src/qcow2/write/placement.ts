/** Offsets of all parts of an image, and the sizes that QEMU refuses to open. No other module computes a size. */

import { formatBytes } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { MAX_CLUSTER_SIZE_BYTES, MAX_L1_TABLE_SIZE_BYTES, MAX_REFCOUNT_TABLE_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import type { AllocationMap, ClusterKind, ClusterRange } from './allocation-map.ts';
import { createTableIndex, type Geometry, geometryOf, needsEntry, refcountCounts, type TableIndex, tablesTouched } from './geometry.ts';
import type { Qcow2Options } from './options.ts';

/** Offsets in the image; every part starts on a cluster border and ends where the next one starts. */
export interface Placement {
  geometry: Geometry;
  clusterTotal: number;
  refcountTableOffset: number;
  refcountBlocksOffset: number;
  refcountBlockCount: number;
  l1TableOffset: number;
  l2TablesOffset: number;
  dataOffset: number;
  tables: TableIndex;
}

/** @throws DiskliftError `ImageTooLarge` when the refcount table would be larger than QEMU opens. */
export function placeParts(map: AllocationMap, options: Qcow2Options): Placement {
  const { clusterSizeBytes } = options;
  const geometry = geometryOf(map.diskSizeBytes, clusterSizeBytes);
  const tables = createTableIndex(map, geometry.l2EntriesPerTable, options);
  const dataClusterCount = options.dataFile === undefined ? map.clusters.data : 0;
  const otherClusterCount = 1 + geometry.l1ClusterCount + tables.tableCount + dataClusterCount;
  const refcounts = refcountCounts(otherClusterCount, clusterSizeBytes, options.refcountBits);
  if (!refcountTableFits(refcounts.tableClusterCount, clusterSizeBytes)) throw refcountTableTooLarge(map, options);

  const refcountTableOffset = clusterSizeBytes;
  const refcountBlocksOffset = refcountTableOffset + refcounts.tableClusterCount * clusterSizeBytes;
  const l1TableOffset = refcountBlocksOffset + refcounts.blockCount * clusterSizeBytes;
  const l2TablesOffset = l1TableOffset + geometry.l1ClusterCount * clusterSizeBytes;
  return {
    geometry,
    clusterTotal: otherClusterCount + refcounts.tableClusterCount + refcounts.blockCount,
    refcountTableOffset,
    refcountBlocksOffset,
    refcountBlockCount: refcounts.blockCount,
    l1TableOffset,
    l2TablesOffset,
    dataOffset: l2TablesOffset + tables.tableCount * clusterSizeBytes,
    tables,
  };
}

function l1TableFits(geometry: Geometry): boolean {
  return geometry.l1EntryCount * TABLE_ENTRY_SIZE_BYTES <= MAX_L1_TABLE_SIZE_BYTES;
}

function refcountTableFits(tableClusterCount: number, clusterSizeBytes: number): boolean {
  return tableClusterCount * clusterSizeBytes <= MAX_REFCOUNT_TABLE_SIZE_BYTES;
}

function tooLarge(what: string, clusterSizeBytes: number, workingSizeBytes: number): DiskliftError {
  return new DiskliftError(
    'ImageTooLarge',
    `${what} at a cluster size of ${clusterSizeBytes}, which QEMU does not open; the smallest cluster size that works is ${workingSizeBytes}`,
  );
}

/** With 2 MiB clusters the tables reach 512 PiB at any refcount width, more than a size below 2^53 can need. */
function smallestClusterSize(above: number, works: (clusterSizeBytes: number) => boolean): number {
  let size = above * 2;
  while (size < MAX_CLUSTER_SIZE_BYTES && !works(size)) size *= 2;
  return size;
}

/**
 * Call this before the scan: the L1 table's size follows from the disk's size alone.
 * @throws DiskliftError `ImageTooLarge` that names the smallest cluster size that works.
 */
export function checkL1TableSize(diskSizeBytes: number, clusterSizeBytes: number): void {
  if (l1TableFits(geometryOf(diskSizeBytes, clusterSizeBytes))) return;
  const working = smallestClusterSize(clusterSizeBytes, (size) => l1TableFits(geometryOf(diskSizeBytes, size)));
  throw tooLarge(
    `a disk of ${formatBytes(diskSizeBytes)} needs an L1 table of more than ${formatBytes(MAX_L1_TABLE_SIZE_BYTES)}`,
    clusterSizeBytes,
    working,
  );
}

/** Counts of the data clusters and L2 tables of the same disk at a multiple of the map's cluster size. */
function countsAt(map: AllocationMap, clusterSizeBytes: number, options: Qcow2Options): { dataCount: number; tableCount: number } {
  const entriesPerTable = clusterSizeBytes / TABLE_ENTRY_SIZE_BYTES;
  const counts = { dataCount: 0, tableCount: 0 };
  for (const { clusterCount } of coarseRanges(map, clusterSizeBytes, (kind) => kind === 'data')) counts.dataCount += clusterCount;
  let lastTable = -1;
  for (const range of coarseRanges(map, clusterSizeBytes, (kind) => needsEntry(kind, options))) {
    const [first, last] = tablesTouched(range, entriesPerTable);
    counts.tableCount += last - first + (first === lastTable ? 0 : 1);
    lastTable = last;
  }
  return counts;
}

/** Larger clusters that hold a smaller one of a wanted kind, each once. */
function* coarseRanges(map: AllocationMap, clusterSizeBytes: number, wanted: (kind: ClusterKind) => boolean): Generator<ClusterRange> {
  const factor = clusterSizeBytes / map.clusterSizeBytes;
  let next = 0;
  for (const range of map.ranges()) {
    if (!wanted(range.kind)) continue;
    const firstCluster = Math.max(Math.floor(range.firstCluster / factor), next);
    const end = Math.ceil((range.firstCluster + range.clusterCount) / factor);
    if (end <= firstCluster) continue;
    yield { ...range, firstCluster, clusterCount: end - firstCluster };
    next = end;
  }
}

/** The error for a refcount table over the limit, with the smallest cluster size at which this map fits. */
function refcountTableTooLarge(map: AllocationMap, options: Qcow2Options): DiskliftError {
  const working = smallestClusterSize(options.clusterSizeBytes, (size) => {
    const geometry = geometryOf(map.diskSizeBytes, size);
    const { dataCount, tableCount } = countsAt(map, size, options);
    const others = 1 + geometry.l1ClusterCount + tableCount + (options.dataFile === undefined ? dataCount : 0);
    return l1TableFits(geometry) && refcountTableFits(refcountCounts(others, size, options.refcountBits).tableClusterCount, size);
  });
  return tooLarge(
    `the image needs a refcount table of more than ${formatBytes(MAX_REFCOUNT_TABLE_SIZE_BYTES)} with refcounts of ${options.refcountBits} bits`,
    options.clusterSizeBytes,
    working,
  );
}
