/** Cluster sizes x refcount widths x versions x shapes of disks, each checked by qemu-img. */

import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import type { Qcow2Options } from '../../src/qcow2/write/options.ts';
import { writeImage } from '../helpers/image-in-process.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk, type DiskPart } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

type Options = Omit<Qcow2Options, 'dataFile'>;

interface Shape {
  sizeBytes: number;
  parts: DiskPart[];
  /** Restricts a shape to the options that it tests. */
  options?: Options[];
}

const CLUSTER_SIZES = Array.from({ length: 13 }, (_, index) => 512 << index);
const WIDTHS = [1, 2, 4, 8, 16, 32, 64];

const ALL_OPTIONS: Options[] = CLUSTER_SIZES.flatMap((clusterSizeBytes) => [
  ...WIDTHS.map((refcountBits): Options => ({ clusterSizeBytes, refcountBits, version: 3 })),
  { clusterSizeBytes, refcountBits: 16, version: 2 },
]);

const random = (offsetBytes: number, lengthBytes: number): DiskPart => ({ offsetBytes, lengthBytes, content: 'random' });
const zeros = (offsetBytes: number, lengthBytes: number): DiskPart => ({ offsetBytes, lengthBytes, content: 'zeros' });

const SHAPES: Record<string, Shape> = {
  sparse: {
    sizeBytes: 5 * MIB,
    parts: [random(0, 10), random(100 * KIB, 70 * KIB), zeros(MIB, MIB), random(3 * MIB - 1, 2)],
  },
  'of unaligned size': { sizeBytes: 3 * MIB + 700, parts: [random(3 * MIB - 5000, 5700)] },
  empty: { sizeBytes: 0, parts: [] },
  'all hole': { sizeBytes: 2 * MIB, parts: [] },
  'all zero': { sizeBytes: 2 * MIB, parts: [zeros(0, 2 * MIB)] },
  full: { sizeBytes: 4 * MIB, parts: [random(0, 4 * MIB)] },
  'one byte at each end': { sizeBytes: 20 * MIB + 1, parts: [random(0, 1), random(20 * MIB, 1)] },
  'one sector': { sizeBytes: 512, parts: [random(0, 512)] },
  'one byte': { sizeBytes: 1, parts: [random(0, 1)] },
  // A cluster of refcount table names 64 blocks: of 64 refcounts, 2 MiB of image; of 128, 4 MiB.
  'larger than one refcount table cluster': {
    sizeBytes: 5 * MIB,
    parts: [random(0, 5 * MIB)],
    options: [
      { clusterSizeBytes: 512, refcountBits: 64, version: 3 },
      { clusterSizeBytes: 512, refcountBits: 32, version: 3 },
    ],
  },
  // 64 L1 entries fill a cluster, each for 32 KiB: 2 MiB of disk; and so on.
  'larger than one L1 cluster': {
    sizeBytes: 200 * MIB,
    parts: [random(0, 1), random(3 * MIB, 40 * KIB), random(100 * MIB + 512, 600 * KIB), random(200 * MIB - 1, 1)],
    options: [
      { clusterSizeBytes: 512, refcountBits: 16, version: 3 },
      { clusterSizeBytes: 1024, refcountBits: 16, version: 2 },
      { clusterSizeBytes: 2048, refcountBits: 8, version: 3 },
    ],
  },
};

describe('images of raw disks', () => {
  const temp = useTempDir();

  for (const [name, { sizeBytes, parts, options = ALL_OPTIONS }] of Object.entries(SHAPES)) {
    it(`a disk ${name}, with ${options.length} sets of options`, async function () {
      this.timeout(180_000);
      const disk = await createDisk(temp('disk.img'), sizeBytes, parts);
      for (const qcow2 of options) {
        const layout = await writeImage(disk, temp('out.qcow2'), qcow2);
        assert.equal((await stat(temp('out.qcow2'))).size, layout.imageSizeBytes, JSON.stringify(qcow2));
        await assertImageOf(temp('out.qcow2'), disk);
      }
    });
  }
});
