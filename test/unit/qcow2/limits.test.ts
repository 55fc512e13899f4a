import assert from 'node:assert/strict';
import { GIB } from '../../../src/common/bytes.ts';
import { createAllocationMapBuilder, fullAllocationMap } from '../../../src/qcow2/write/allocation-map.ts';
import { createLayout } from '../../../src/qcow2/write/layout.ts';
import { checkL1TableSize } from '../../../src/qcow2/write/placement.ts';
import { DEFAULT_OPTIONS } from '../../helpers/image-in-process.ts';

/** The largest disk whose L1 table QEMU opens: 2^22 entries, each for (cluster size / 8) clusters. */
const largestDiskBytes = (clusterSizeBytes: number) => 2 ** 22 * (clusterSizeBytes / 8) * clusterSizeBytes;

describe('limits', () => {
  for (const clusterSizeBytes of [512, 4096, 65_536]) {
    it(`takes an L1 table of exactly 32 MiB and no larger one at ${clusterSizeBytes}-byte clusters`, () => {
      const largest = largestDiskBytes(clusterSizeBytes);
      checkL1TableSize(largest, clusterSizeBytes);
      assert.throws(() => checkL1TableSize(largest + 1, clusterSizeBytes), {
        code: 'ImageTooLarge',
        message: new RegExp(`the smallest cluster size that works is ${clusterSizeBytes * 2}$`),
      });
    });
  }

  it('names a cluster size several steps up when the next one does not work', () => {
    assert.throws(() => checkL1TableSize(16 * 1024 * GIB, 512), /smallest cluster size that works is 8192$/);
    checkL1TableSize(16 * 1024 * GIB, 8192);
    assert.throws(() => checkL1TableSize(16 * 1024 * GIB, 4096));
  });

  it('refuses a refcount table of more than 8 MiB and names a cluster size that really works', () => {
    const options = { ...DEFAULT_OPTIONS, clusterSizeBytes: 512, refcountBits: 64 };
    // 2^20 blocks of 64 refcounts count 32 GiB of 512-byte clusters, the image's own tables included.
    const map = fullAllocationMap(33 * GIB, 512);
    assert.throws(() => createLayout(map, options), { code: 'ImageTooLarge', message: /refcount table .* 64 bits .* is 1024$/ });
    createLayout(fullAllocationMap(33 * GIB, 1024), { ...options, clusterSizeBytes: 1024 });
  });

  it('depends on the content of the disk, not on its size', () => {
    const options = { ...DEFAULT_OPTIONS, clusterSizeBytes: 512, refcountBits: 64 };
    const clusters = (100 * GIB) / 512;
    const builder = createAllocationMapBuilder(100 * GIB, 512);
    builder.append('hole', clusters - 1000);
    builder.append('data', 1000);
    assert.ok(createLayout(builder.build(), options).imageSizeBytes < GIB);
  });

  it('counts neighbouring pieces once when it looks for a larger cluster size', () => {
    // Every other 512-byte cluster holds data: at 1 KiB every cluster does, which is as much as the disk itself.
    const clusters = (50 * GIB) / 512;
    const builder = createAllocationMapBuilder(50 * GIB, 512);
    const pieces = 5000;
    for (let piece = 0; piece < pieces; piece += 1) {
      builder.append('data', clusters / pieces - 1);
      builder.append('hole', 1);
    }
    builder.append('hole', clusters - builder.clusterCount);
    const options = { ...DEFAULT_OPTIONS, clusterSizeBytes: 512, refcountBits: 64 };
    assert.throws(() => createLayout(builder.build(), options), /smallest cluster size that works is 1024$/);
  });

  it('always finds a cluster size: the largest disk that disklift can address fits 128 KiB clusters', () => {
    assert.throws(() => checkL1TableSize(Number.MAX_SAFE_INTEGER, 512), /smallest cluster size that works is 131072$/);
    checkL1TableSize(Number.MAX_SAFE_INTEGER, 131_072);
  });
});
