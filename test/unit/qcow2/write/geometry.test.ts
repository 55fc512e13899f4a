import assert from 'node:assert/strict';
import fc from 'fast-check';
import { refcountCounts } from '../../../../src/qcow2/write/geometry.ts';
import { SEED, SEED_TEXT } from '../../../helpers/seed.ts';

describe('refcount counts', () => {
  it(`cover all clusters and themselves, and no smaller counts do ${SEED_TEXT}`, () => {
    const clusterSizes = fc.integer({ min: 9, max: 21 }).map((bits) => 2 ** bits);
    const widths = fc.constantFrom(1, 2, 4, 8, 16, 32, 64);
    const others = fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 2 ** 40 }));
    fc.assert(
      fc.property(others, clusterSizes, widths, (otherCount, clusterSizeBytes, refcountBits) => {
        const perBlock = (clusterSizeBytes * 8) / refcountBits;
        const { blockCount, tableClusterCount } = refcountCounts(otherCount, clusterSizeBytes, refcountBits);
        const covers = (blocks: number) => blocks * perBlock >= otherCount + blocks + Math.ceil((blocks * 8) / clusterSizeBytes);
        assert.equal(tableClusterCount, Math.ceil((blockCount * 8) / clusterSizeBytes));
        assert.ok(covers(blockCount));
        assert.ok(!covers(blockCount - 1));
      }),
      { seed: SEED, numRuns: 5000 },
    );
  });

  it('grow by one block exactly where one more cluster no longer fits', () => {
    // 512-byte clusters with 64-bit refcounts: 64 a block. 62 others, a table cluster and a block fill the block.
    assert.deepEqual(refcountCounts(62, 512, 64), { blockCount: 1, tableClusterCount: 1 });
    assert.deepEqual(refcountCounts(63, 512, 64), { blockCount: 2, tableClusterCount: 1 });
  });
});
