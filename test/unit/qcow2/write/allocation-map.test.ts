import assert from 'node:assert/strict';
import { type ClusterKind, createAllocationMapBuilder, fullAllocationMap } from '../../../../src/qcow2/write/allocation-map.ts';

function mapOf(clusters: readonly [ClusterKind, number][], diskSizeBytes?: number) {
  const total = clusters.reduce((sum, [, count]) => sum + count, 0);
  const builder = createAllocationMapBuilder(diskSizeBytes ?? total * 512, 512);
  for (const [kind, count] of clusters) builder.append(kind, count);
  return builder.build();
}

describe('allocation map', () => {
  it('merges neighbours of one kind, for any sequence of appends', () => {
    const map = mapOf([
      ['data', 1],
      ['data', 2],
      ['zero', 0],
      ['hole', 3],
      ['hole', 1],
      ['zero', 5],
      ['data', 4],
    ]);
    assert.deepEqual(
      [...map.ranges()],
      [
        { kind: 'data', firstCluster: 0, clusterCount: 3, dataClustersBefore: 0 },
        { kind: 'hole', firstCluster: 3, clusterCount: 4, dataClustersBefore: 3 },
        { kind: 'zero', firstCluster: 7, clusterCount: 5, dataClustersBefore: 3 },
        { kind: 'data', firstCluster: 12, clusterCount: 4, dataClustersBefore: 3 },
      ],
    );
    assert.deepEqual(map.clusters, { total: 16, data: 7, zero: 5, hole: 4 });
    assert.deepEqual([map.rangeCount, map.dataRangeCount], [4, 2]);
  });

  it('finds the range of each guest cluster and of each data cluster', () => {
    const kinds: ClusterKind[] = ['hole', 'data', 'zero', 'data', 'hole', 'zero', 'data'];
    // More ranges than the columns begin with, so that they have to grow.
    const map = mapOf(
      Array.from({ length: 700 }, (_, index) => [kinds[index % kinds.length] as ClusterKind, (index % 5) + 1] as const).map(([k, n]) => [
        k,
        n,
      ]),
    );
    let cluster = 0;
    let data = 0;
    [...map.ranges()].forEach((range, index) => {
      for (let within = 0; within < range.clusterCount; within += 1) {
        assert.equal(map.rangeOfCluster(cluster), index);
        cluster += 1;
        if (range.kind !== 'data') continue;
        assert.equal(map.rangeOfDataCluster(data), index);
        data += 1;
      }
    });
    assert.deepEqual([cluster, data], [map.clusters.total, map.clusters.data]);
  });

  it('refuses to be built when it does not cover the disk', () => {
    const builder = createAllocationMapBuilder(1024 * 512, 512);
    builder.append('data', 1023);
    assert.throws(() => builder.build(), RangeError);
    builder.append('hole', 2);
    assert.throws(() => builder.build(), RangeError);
  });

  it('counts the cut cluster at the end of a disk', () => {
    assert.equal(fullAllocationMap(65_537, 65_536).clusters.data, 2);
    assert.equal(fullAllocationMap(0, 65_536).clusters.total, 0);
  });

  it('costs nothing per cluster: 16 TiB in 512-byte clusters', () => {
    const total = 2 ** 44 / 512;
    const map = mapOf([
      ['hole', total - 2],
      ['data', 2],
    ]);
    assert.equal(map.rangeOfDataCluster(1), 1);
    assert.deepEqual(map.clusters, { total, data: 2, zero: 0, hole: total - 2 });
  });
});
