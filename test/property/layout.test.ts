import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type ClusterKind, createAllocationMapBuilder } from '../../src/qcow2/write/allocation-map.ts';
import { createLayout, type Layout } from '../../src/qcow2/write/layout.ts';
import type { Qcow2Options } from '../../src/qcow2/write/options.ts';
import { clusterRanges, deltaRanges, refcountWidths } from '../helpers/extent-map.ts';
import { walkImage } from '../helpers/qcow2-walker.ts';
import { SEED, SEED_TEXT } from '../helpers/seed.ts';

/** Small, so that a map of some hundred clusters crosses the borders of L2 tables, refcount blocks and L1 clusters. */
const clusterSizes = fc.constantFrom(512, 1024, 4096);

const options: fc.Arbitrary<Qcow2Options> = fc
  .record({
    clusterSizeBytes: clusterSizes,
    refcountBits: refcountWidths,
    version: fc.constantFrom(2, 3),
    dataFile: fc.option(fc.record({ path: fc.constant('/disk.img'), raw: fc.boolean() }), { nil: undefined, freq: 4 }),
  })
  .map((record) => ({
    ...record,
    clusterSizeBytes: record.dataFile === undefined ? record.clusterSizeBytes : Math.max(1024, record.clusterSizeBytes),
    version: record.refcountBits === 16 && record.dataFile === undefined ? (record.version as 2 | 3) : 3,
  }));

/** Images of whole disks, and deltas. */
const images: fc.Arbitrary<[[ClusterKind, number][], Qcow2Options]> = fc.oneof(
  fc.tuple(clusterRanges, options),
  fc.tuple(
    deltaRanges,
    fc.record({
      clusterSizeBytes: clusterSizes,
      refcountBits: refcountWidths,
      version: fc.constant<3>(3),
      backingFile: fc.record({ name: fc.constantFrom('b', '../full.qcow2', 'ä'.repeat(180)), format: fc.constantFrom('qcow2', 'raw') }),
    }),
  ),
);

function clustersOf({ map }: Layout, ...kinds: ClusterKind[]): number[] {
  return [...map.ranges()]
    .filter(({ kind }) => kinds.includes(kind))
    .flatMap(({ firstCluster, clusterCount }) => Array.from({ length: clusterCount }, (_, index) => firstCluster + index));
}

function layoutOf(ranges: readonly [ClusterKind, number][], cutBytes: number, qcow2: Qcow2Options): Layout {
  const clusters = ranges.reduce((sum, [, count]) => sum + count, 0);
  const sizeBytes = Math.max(0, clusters * qcow2.clusterSizeBytes - (clusters === 0 ? 0 : cutBytes % qcow2.clusterSizeBytes));
  const builder = createAllocationMapBuilder(sizeBytes, qcow2.clusterSizeBytes);
  for (const [kind, count] of ranges) builder.append(kind, count);
  return createLayout(builder.build(), qcow2);
}

/** The image with its data clusters as zeros, because these tests examine the metadata only. */
function metadataOf(layout: Layout): Buffer {
  const image = Buffer.alloc(layout.imageSizeBytes);
  layout.renderMetadata(image.subarray(0, layout.dataOffset), 0);
  return image;
}

describe('layout', () => {
  it(`maps exactly the data clusters, and a delta's zeros, uses every cluster of the file once and counts it ${SEED_TEXT}`, () => {
    fc.assert(
      fc.property(images, fc.nat(), ([ranges, qcow2], cut) => {
        const layout = layoutOf(ranges, cut, qcow2);
        const walked = walkImage(metadataOf(layout), { externalData: qcow2.dataFile !== undefined });
        assert.equal(walked.virtualSizeBytes, Math.ceil(layout.map.diskSizeBytes / 512) * 512);
        const expected = clustersOf(layout, 'data');
        assert.deepEqual([...walked.mapping.keys()], expected);
        assert.deepEqual(walked.zeros, qcow2.backingFile === undefined ? [] : clustersOf(layout, 'hole', 'zero'));
        assert.deepEqual(walked.backing, qcow2.backingFile && { ...qcow2.backingFile });
        if (qcow2.dataFile === undefined)
          assert.deepEqual(
            [...walked.mapping.values()],
            expected.map((_, index) => layout.dataOffset + index * qcow2.clusterSizeBytes),
          );
      }),
      { seed: SEED, numRuns: 300 },
    );
  });

  it(`renders any part of the metadata with the same bytes as the whole ${SEED_TEXT}`, () => {
    fc.assert(
      fc.property(
        images,
        fc.nat(),
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 3000 })), { maxLength: 20 }),
        ([ranges, qcow2], cut, pieces) => {
          const layout = layoutOf(ranges, cut, qcow2);
          const whole = metadataOf(layout);
          for (const [at, length] of pieces) {
            const start = at % layout.dataOffset;
            const piece = Buffer.alloc(Math.min(length, layout.dataOffset - start), 0xff);
            layout.renderMetadata(piece, start);
            assert.ok(piece.equals(whole.subarray(start, start + piece.length)), `bytes ${start} to ${start + piece.length}`);
          }
        },
      ),
      { seed: SEED, numRuns: 300 },
    );
  });

  it(`covers any part of the image with runs at the right offsets, without gap or overlap ${SEED_TEXT}`, () => {
    fc.assert(
      fc.property(images, fc.nat(), fc.nat(), fc.nat(), ([ranges, qcow2], cut, a, b) => {
        const layout = layoutOf(ranges, cut, qcow2);
        const { mapping } = walkImage(metadataOf(layout), { externalData: qcow2.dataFile !== undefined });
        const guestOf = new Map([...mapping].map(([guest, host]) => [host, guest]));
        const [start, end] = [a % (layout.imageSizeBytes + 1), b % (layout.imageSizeBytes + 1)].toSorted((x, y) => x - y) as [
          number,
          number,
        ];
        let at = start;
        for (const run of layout.runs(start, end)) {
          assert.equal(run.imageOffset, at);
          assert.ok(run.length > 0);
          at += run.length;
          if (run.kind !== 'data') continue;
          assert.ok(run.sourceOffset + run.length <= layout.map.diskSizeBytes);
          const within = run.imageOffset % qcow2.clusterSizeBytes;
          const guest = guestOf.get(run.imageOffset - within) as number;
          assert.equal(run.sourceOffset, guest * qcow2.clusterSizeBytes + within);
        }
        assert.equal(at, end);
      }),
      { seed: SEED, numRuns: 500 },
    );
  });
});
