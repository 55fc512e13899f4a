/** How many clusters the refcount structures take: a fixed point, because they count themselves. */

import { TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';

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
