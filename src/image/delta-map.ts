/**
 * The map of a delta from the scan that every image has. The scan sees the changed clusters as extents, and all between
 * them as holes. The holes are then told apart: unchanged clusters, and zeros that the source reports.
 */

import type { AllocationMapBuilder, ClusterKind } from '../qcow2/write/allocation-map.ts';
import type { ChangedRange } from '../sources/changed/clusters.ts';
import type { ScanRange } from './scan-queue.ts';

export interface ScanPlan {
  /** The clusters to read. */
  ranges: AsyncIterable<ScanRange>;
  /** Takes holes for all clusters that `ranges` has left out so far. */
  builder: AllocationMapBuilder;
}

interface Gap {
  kind: ClusterKind;
  endCluster: number;
}

export function createDeltaPlan(changed: AsyncIterable<ChangedRange>, builder: AllocationMapBuilder): ScanPlan {
  /** Ranges without a read that are not in the map yet, in the order of the disk. */
  const gaps: Gap[] = [];

  async function* ranges(): AsyncGenerator<ScanRange> {
    for await (const { kind, firstCluster, clusterCount } of changed) {
      if (kind === 'data') yield { firstCluster, clusterCount };
      else gaps.push({ kind: kind === 'zeros' ? 'hole' : 'unchanged', endCluster: firstCluster + clusterCount });
    }
  }

  function appendGap(clusterCount: number): void {
    const end = builder.clusterCount + clusterCount;
    while (builder.clusterCount < end) {
      const [gap] = gaps;
      if (gap === undefined) throw new RangeError(`no range of clusters up to ${end} was left out of the scan`);
      builder.append(gap.kind, Math.min(gap.endCluster, end) - builder.clusterCount);
      if (gap.endCluster <= builder.clusterCount) gaps.shift();
    }
  }

  return {
    ranges: ranges(),
    builder: {
      get clusterCount() {
        return builder.clusterCount;
      },
      append: (kind, clusterCount) => (kind === 'hole' ? appendGap(clusterCount) : builder.append(kind, clusterCount)),
      build: () => builder.build(),
    },
  };
}
