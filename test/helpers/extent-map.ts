/** Random extent maps for property tests. */

import fc from 'fast-check';
import type { ClusterKind } from '../../src/qcow2/write/allocation-map.ts';

type Ranges = fc.Arbitrary<[ClusterKind, number][]>;

/** Most maps are short, some have many single clusters. */
function rangesOf(...kinds: ClusterKind[]): Ranges {
  const length = fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 4 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 300 }) },
  );
  return fc.array(fc.tuple(fc.constantFrom(...kinds), length), { maxLength: 40 });
}

/** Ranges of clusters. */
export const clusterRanges: Ranges = rangesOf('hole', 'zero', 'data');

/** Ranges of the clusters of a delta. */
export const deltaRanges: Ranges = rangesOf('hole', 'zero', 'data', 'unchanged', 'unchanged');

export const refcountWidths = fc.constantFrom(1, 2, 4, 8, 16, 32, 64);
