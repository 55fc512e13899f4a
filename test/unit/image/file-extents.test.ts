import assert from 'node:assert/strict';
import { fileExtents } from '../../../src/image/virtual-image.ts';
import { createAllocationMapBuilder } from '../../../src/qcow2/write/allocation-map.ts';
import { createLayout } from '../../../src/qcow2/write/layout.ts';
import type { FileExtent } from '../../../src/sources/contract.ts';
import { DEFAULT_OPTIONS } from '../../helpers/image-in-process.ts';

const CLUSTER = DEFAULT_OPTIONS.clusterSizeBytes;

/** Data in the clusters 0, 1, 4 and 6 of 8. */
function layoutOf() {
  const builder = createAllocationMapBuilder(8 * CLUSTER, CLUSTER);
  for (const [kind, count] of [
    ['data', 2],
    ['hole', 2],
    ['data', 1],
    ['zero', 1],
    ['data', 1],
    ['hole', 1],
  ] as const)
    builder.append(kind, count);
  return createLayout(builder.build(), DEFAULT_OPTIONS);
}

describe('runs of an image that lie in files', () => {
  const layout = layoutOf();
  const { dataOffset, imageSizeBytes } = layout;

  it('are the data of a raw disk, one extent for each range of data', () => {
    const extentsOfSource = (offset: number, length: number) => [{ offset, length, fd: 7, fileOffset: offset }];
    assert.deepEqual(
      [...fileExtents({ layout, extentsOfSource }, 0, imageSizeBytes)],
      [
        { imageOffset: dataOffset, length: 2 * CLUSTER, fd: 7, fileOffset: 0 },
        { imageOffset: dataOffset + 2 * CLUSTER, length: CLUSTER, fd: 7, fileOffset: 4 * CLUSTER },
        { imageOffset: dataOffset + 3 * CLUSTER, length: CLUSTER, fd: 7, fileOffset: 6 * CLUSTER },
      ],
    );
  });

  it('are one extent where they are neighbours in the file, within the requested bounds', () => {
    const fileOffsetOf = new Map(
      [
        [0, 0],
        [4, 2],
        [6, 3],
      ].map(([disk = 0, file = 0]) => [disk * CLUSTER, (10 + file) * CLUSTER]),
    );
    const extentsOfSource = (offset: number, length: number) => {
      const start = Math.floor(offset / CLUSTER) * CLUSTER;
      const base = fileOffsetOf.get(start) ?? 11 * CLUSTER;
      return [{ offset, length, fd: 7, fileOffset: base + offset - start }];
    };
    const run = (start: number, end: number) => [...fileExtents({ layout, extentsOfSource }, start, end)];
    assert.deepEqual(run(0, imageSizeBytes), [{ imageOffset: dataOffset, length: 4 * CLUSTER, fd: 7, fileOffset: 10 * CLUSTER }]);
    assert.deepEqual(run(dataOffset + 100, imageSizeBytes - 5), [
      { imageOffset: dataOffset + 100, length: 4 * CLUSTER - 105, fd: 7, fileOffset: 10 * CLUSTER + 100 },
    ]);
    assert.deepEqual(run(0, dataOffset), []);
  });

  it('leave out bytes that no file holds, and are separate in different files', () => {
    const extentsOfSource = function* (offset: number, length: number): Generator<FileExtent> {
      if (offset === 0) yield { offset: 4096, length: length - 4096, fd: 7, fileOffset: 4096 };
      else yield { offset, length, fd: offset / CLUSTER + 4, fileOffset: offset === 4 * CLUSTER ? 2 * CLUSTER : 3 * CLUSTER };
    };
    assert.deepEqual(
      [...fileExtents({ layout, extentsOfSource }, 0, imageSizeBytes)],
      [
        { imageOffset: dataOffset + 4096, length: 2 * CLUSTER - 4096, fd: 7, fileOffset: 4096 },
        { imageOffset: dataOffset + 2 * CLUSTER, length: CLUSTER, fd: 8, fileOffset: 2 * CLUSTER },
        { imageOffset: dataOffset + 3 * CLUSTER, length: CLUSTER, fd: 10, fileOffset: 3 * CLUSTER },
      ],
    );
  });
});
