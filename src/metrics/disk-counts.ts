/** From how far a disk is to how much was done since it was last looked at. Counters only grow; a state begins anew with each attempt. */

import { countClusters, type DiskState } from '../engine/observer.ts';
import type { CLUSTER_KINDS, SKIP_REASONS } from './catalogue.ts';

interface DiskProgress {
  scannedClusters: number;
  skipped: Readonly<Record<(typeof SKIP_REASONS)[number], number>>;
  written: Readonly<Record<(typeof CLUSTER_KINDS)[number], number>>;
  readBytes: number;
  sentBytes: number;
}

export interface DiskCounts {
  /** To be called at least once an attempt, before the next one begins. @returns what has been done since the last call */
  advance(state: DiskState): DiskProgress;
}

/** The growth of a number that may have been set back to 0 in between. */
function createGrowth(): (value: number) => number {
  let last = 0;
  return (value) => {
    const growth = value < last ? value : value - last;
    last = value;
    return growth;
  };
}

export function createDiskCounts(): DiskCounts {
  const [scanned, data, metadata] = [createGrowth(), createGrowth(), createGrowth()] as const;
  const [read, sent] = [createGrowth(), createGrowth()] as const;
  let counted: DiskState['map'];

  return {
    advance(state) {
      const { readBytes, sentBytes, map } = state;
      const counts = countClusters(state);
      // Clusters that are known because another scan has found them: each scan decides anew.
      const found = map === counted ? undefined : map?.clusters;
      counted = map;
      return {
        scannedClusters: scanned(counts.scanned),
        skipped: { hole: found?.hole ?? 0, zero: found?.zero ?? 0 },
        written: { data: data(counts.written), metadata: metadata(counts.writtenMetadata) },
        readBytes: read(readBytes),
        sentBytes: sent(sentBytes),
      };
    },
  };
}
