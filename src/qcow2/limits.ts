/** What QEMU refuses to open. Such an image must be refused before its first byte. */

import { formatBytes } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { MAX_CLUSTER_SIZE_BYTES, MAX_L1_TABLE_SIZE_BYTES, MAX_REFCOUNT_TABLE_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from './constants.ts';
import { type Geometry, geometryOf } from './geometry.ts';
import { tablesTouched } from './read/table-index.ts';
import type { AllocationMap } from './write/allocation-map.ts';
import type { Qcow2Options } from './write/options.ts';
import { refcountCounts } from './write/refcounts.ts';

function l1TableFits(geometry: Geometry): boolean {
  return geometry.l1EntryCount * TABLE_ENTRY_SIZE_BYTES <= MAX_L1_TABLE_SIZE_BYTES;
}

export function refcountTableFits(tableClusterCount: number, clusterSizeBytes: number): boolean {
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
 * To be asked before the scan: the L1 table's size follows from the disk's size alone.
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

/** Data clusters and L2 tables that the same disk would need at a cluster size that is a multiple of the map's. */
function countsAt(map: AllocationMap, clusterSizeBytes: number): { dataCount: number; tableCount: number } {
  const factor = clusterSizeBytes / map.clusterSizeBytes;
  const entriesPerTable = clusterSizeBytes / TABLE_ENTRY_SIZE_BYTES;
  const counts = { dataCount: 0, tableCount: 0 };
  let lastCluster = -1;
  let lastTable = -1;
  for (const range of map.ranges()) {
    if (range.kind !== 'data') continue;
    const firstCluster = Math.max(Math.floor(range.firstCluster / factor), lastCluster + 1);
    const end = Math.ceil((range.firstCluster + range.clusterCount) / factor);
    if (end <= firstCluster) continue;
    counts.dataCount += end - firstCluster;
    lastCluster = end - 1;
    const coarse = { ...range, firstCluster, clusterCount: end - firstCluster };
    const [first, last] = tablesTouched(coarse, entriesPerTable);
    counts.tableCount += last - first + (first === lastTable ? 0 : 1);
    lastTable = last;
  }
  return counts;
}

/** The error for a refcount table over the limit, with the smallest cluster size at which this very map fits. */
export function refcountTableTooLarge(map: AllocationMap, options: Qcow2Options): DiskliftError {
  const working = smallestClusterSize(options.clusterSizeBytes, (size) => {
    const geometry = geometryOf(map.diskSizeBytes, size);
    const { dataCount, tableCount } = countsAt(map, size);
    const others = 1 + geometry.l1ClusterCount + tableCount + (options.dataFile === undefined ? dataCount : 0);
    return l1TableFits(geometry) && refcountTableFits(refcountCounts(others, size, options.refcountBits).tableClusterCount, size);
  });
  return tooLarge(
    `the image needs a refcount table of more than ${formatBytes(MAX_REFCOUNT_TABLE_SIZE_BYTES)} with refcounts of ${options.refcountBits} bits`,
    options.clusterSizeBytes,
    working,
  );
}
