/** Which L2 tables an image holds: a table exists when a data cluster lies in the part of the disk that it maps. */

import type { AllocationMap, ClusterRange } from '../write/allocation-map.ts';

export interface TableIndex {
  /** L2 tables that exist. */
  readonly tableCount: number;
  /** The number of the last table that `range`, a range of data at `rangeIndex`, lies in, counting existing tables only. */
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
export function createTableIndex(map: AllocationMap, entriesPerTable: number): TableIndex {
  // tablesThrough[i]: tables that exist because of ranges 0..i. Two ranges may share one, which counts once.
  const tablesThrough = new Float64Array(map.rangeCount);
  let tableCount = 0;
  let lastL1Index = -1;
  let index = 0;
  for (const range of map.ranges()) {
    if (range.kind === 'data') {
      const [first, last] = tablesTouched(range, entriesPerTable);
      tableCount += last - first + (first === lastL1Index ? 0 : 1);
      lastL1Index = last;
    }
    tablesThrough[index] = tableCount;
    index += 1;
  }

  /** The first range through which more than `table` tables exist: the data range that brought that table. */
  function rangeOfTable(table: number): number {
    let low = 0;
    let high = map.rangeCount - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((tablesThrough[middle] as number) > table) high = middle;
      else low = middle + 1;
    }
    return low;
  }

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
