// Runs alone: it measures the time of a computation.

import assert from 'node:assert/strict';
import { type AllocationMap, type ClusterKind, createAllocationMapBuilder } from '../../../src/qcow2/write/allocation-map.ts';
import { drawMap, sentUntilCluster } from '../../../src/server/draw-map.ts';

const CLUSTER = 65_536;

function mapOf(ranges: readonly (readonly [ClusterKind, number])[]): AllocationMap {
  const total = ranges.reduce((sum, [, count]) => sum + count, 0);
  const builder = createAllocationMapBuilder(total * CLUSTER, CLUSTER);
  for (const [kind, count] of ranges) builder.append(kind, count);
  return builder.build();
}

function sharesOf(map: AllocationMap): { data: number; zeros: number }[] {
  const { shares, cellCount } = drawMap(map);
  const bytes = Buffer.from(shares, 'base64');
  assert.equal(bytes.length, 2 * cellCount);
  return Array.from({ length: cellCount }, (_, cell) => ({ data: bytes[2 * cell] as number, zeros: bytes[2 * cell + 1] as number }));
}

describe('drawMap', () => {
  it('has a cell for each cluster of a small disk', () => {
    const cells = sharesOf(
      mapOf([
        ['data', 2],
        ['zero', 1],
        ['hole', 3],
        ['data', 1],
      ]),
    );
    assert.deepEqual(
      cells.map(({ data, zeros }) => (data === 255 ? 'd' : zeros === 255 ? 'z' : data + zeros === 0 ? 'h' : '?')).join(''),
      'ddzhhhd',
    );
  });

  it('tells the shares of what a cell of many clusters holds, as walking the clusters would', () => {
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    const kinds: ClusterKind[] = [];
    while (kinds.length < 50_000) {
      const kind = (['hole', 'zero', 'data'] as const)[random(3)] as ClusterKind;
      for (let count = 1 + random(40); count > 0; count -= 1) kinds.push(kind);
    }
    const map = mapOf(kinds.map((kind) => [kind, 1] as const));
    const cells = sharesOf(map);
    cells.forEach(({ data, zeros }, cell) => {
      const inCell = kinds.slice(Math.floor((cell * kinds.length) / 4096), Math.floor(((cell + 1) * kinds.length) / 4096));
      const share = (kind: ClusterKind) => (255 * inCell.filter((each) => each === kind).length) / inCell.length;
      assert.ok(Math.abs(data - share('data')) <= 1 && Math.abs(zeros - share('zero')) <= 1, `cell ${cell}`);
    });
  });

  it('shows a single cluster of data in 16 TiB', () => {
    const total = 2 ** 44 / CLUSTER;
    const cells = sharesOf(
      mapOf([
        ['hole', total - 1],
        ['data', 1],
      ]),
    );
    assert.deepEqual([cells.length, cells.at(-1), cells[0]], [4096, { data: 1, zeros: 0 }, { data: 0, zeros: 0 }]);
  });

  it('looks at no more ranges than the picture has places for, however fragmented 16 TiB are', () => {
    const total = 2 ** 44 / CLUSTER;
    const rangeCount = 2 ** 23;
    const length = total / rangeCount;
    let looks = 0;
    // A map that would take 140 MB, as its answers.
    const kindOf = (index: number): ClusterKind => (index % 2 === 0 ? 'data' : index % 4 === 1 ? 'zero' : 'hole');
    const map: AllocationMap = {
      diskSizeBytes: 2 ** 44,
      clusterSizeBytes: CLUSTER,
      clusters: { total, data: total / 2, zero: total / 4, hole: total / 4 },
      rangeCount,
      dataRangeCount: rangeCount / 2,
      ranges: () => assert.fail('the ranges are not walked'),
      rangeAt(index) {
        looks += 1;
        return {
          kind: kindOf(index),
          firstCluster: index * length,
          clusterCount: length,
          dataClustersBefore: Math.ceil(index / 2) * length,
        };
      },
      rangeOfCluster: (cluster) => Math.floor(cluster / length),
      rangeOfDataCluster: (index) => 2 * Math.floor(index / length),
    };
    const startMs = performance.now();
    const cells = sharesOf(map);
    const tookMs = performance.now() - startMs;
    assert.ok(looks <= 4096 * 66, `${looks} looks`);
    assert.ok(tookMs < 1000, `${tookMs} ms`);
    for (const { data, zeros } of cells) assert.ok(Math.abs(data - 127) <= 1 && zeros > 30 && zeros < 130, `${data} ${zeros}`);
  });

  it('has no cells for an empty disk', () => {
    assert.equal(drawMap(createAllocationMapBuilder(0, CLUSTER).build()).cellCount, 0);
  });
});

describe('sentUntilCluster', () => {
  const map = mapOf([
    ['hole', 10],
    ['data', 5],
    ['zero', 10],
    ['data', 5],
    ['hole', 10],
  ]);

  it('is where on the disk the data begins that is still to be sent', () => {
    assert.deepEqual(
      [0, 1, 4, 5, 6, 9, 10, 11].map((written) => sentUntilCluster(map, written)),
      [0, 11, 14, 25, 26, 29, 40, 40],
    );
  });
});
