/** Where each part of the image lies. All sizes come from here; nothing else computes one. */

import { type Geometry, geometryOf } from '../geometry.ts';
import { refcountTableFits, refcountTableTooLarge } from '../limits.ts';
import { createTableIndex, type TableIndex } from '../read/table-index.ts';
import type { AllocationMap } from './allocation-map.ts';
import type { Qcow2Options } from './options.ts';
import { refcountCounts } from './refcounts.ts';

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
  const tables = createTableIndex(map, geometry.l2EntriesPerTable);
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
