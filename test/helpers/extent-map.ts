/** Random extent maps for property tests. */

import fc from 'fast-check';
import type { ClusterKind } from '../../src/qcow2/write/allocation-map.ts';

/** Ranges of clusters; most maps are short, some have many single clusters. */
export const clusterRanges: fc.Arbitrary<[ClusterKind, number][]> = fc.array(
  fc.tuple(
    fc.constantFrom<ClusterKind>('hole', 'zero', 'data'),
    fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 4 }) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 300 }) }),
  ),
  { maxLength: 40 },
);

export const refcountWidths = fc.constantFrom(1, 2, 4, 8, 16, 32, 64);
