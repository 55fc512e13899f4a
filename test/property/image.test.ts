import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import fc from 'fast-check';
import { DEFAULT_OPTIONS, NEVER, openImage, writeImage } from '../helpers/image-in-process.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { SEED, SEED_TEXT } from '../helpers/seed.ts';
import { createDisk, type DiskPart } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const KIB = 1024;

/** Extents at any byte: edges inside of clusters, several in one cluster, one over many. */
const parts: fc.Arbitrary<DiskPart[]> = fc.array(
  fc.record({
    offsetBytes: fc.nat({ max: 6 * 1024 * KIB }),
    lengthBytes: fc.oneof(fc.integer({ min: 1, max: 5 * KIB }), fc.integer({ min: 1, max: 600 * KIB })),
    content: fc.constantFrom('random', 'random', 'zeros'),
  }),
  { maxLength: 12 },
);

const disks = fc.record({ parts, slackBytes: fc.oneof(fc.constant(0), fc.nat({ max: 300 * KIB })) });

const options = fc
  .record({
    clusterSizeBytes: fc.integer({ min: 9, max: 21 }).map((bits) => 2 ** bits),
    refcountBits: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
    version: fc.constantFrom<2 | 3>(2, 3),
  })
  .map((record) => (record.version === 2 ? { ...record, refcountBits: DEFAULT_OPTIONS.refcountBits } : record));

function create(path: string, disk: { parts: DiskPart[]; slackBytes: number }): Promise<string> {
  const end = Math.max(0, ...disk.parts.map((part) => part.offsetBytes + part.lengthBytes));
  return createDisk(path, end + disk.slackBytes, disk.parts);
}

describe('image', () => {
  const temp = useTempDir();

  it(`passes qemu-img check and compare, for any disk and options, and is as long as predicted ${SEED_TEXT}`, async function () {
    this.timeout(120_000);
    await fc.assert(
      fc.asyncProperty(disks, options, async (disk, qcow2) => {
        const path = await create(temp('disk.img'), disk);
        const layout = await writeImage(path, temp('out.qcow2'), qcow2);
        const file = await open(temp('out.qcow2'));
        assert.equal((await file.stat()).size, layout.imageSizeBytes);
        await file.close();
        await assertImageOf(temp('out.qcow2'), path);
      }),
      { seed: SEED, numRuns: 1000, interruptAfterTimeLimit: 30_000, markInterruptAsFailure: false },
    );
  });

  it(`reads the same bytes in any range as the stream has, with both kinds of zero detection ${SEED_TEXT}`, async function () {
    this.timeout(120_000);
    const reads = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 300 * KIB })), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(
        disks,
        options,
        fc.constantFrom('content' as const, 'extents' as const),
        reads,
        async (disk, qcow2, detection, ranges) => {
          const path = await create(temp('disk.img'), disk);
          await using opened = await openImage(path, qcow2, detection);
          const { image } = opened;
          const chunks: Buffer[] = [];
          for await (const chunk of image.stream({ signal: NEVER })) chunks.push(Buffer.from(chunk));
          const whole = Buffer.concat(chunks);
          assert.equal(whole.length, image.sizeBytes);
          for (const [at, length] of ranges) {
            const start = at % image.sizeBytes;
            const buffer = Buffer.alloc(Math.min(length, image.sizeBytes - start), 0xff);
            await image.read(buffer, start, NEVER);
            assert.ok(buffer.equals(whole.subarray(start, start + buffer.length)), `bytes ${start} to ${start + buffer.length}`);
          }
        },
      ),
      { seed: SEED, numRuns: 1000, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
    );
  });

  it(`streams any range as a part of the whole ${SEED_TEXT}`, async function () {
    this.timeout(60_000);
    const path = await create(temp('disk.img'), {
      parts: [
        { offsetBytes: 5000, lengthBytes: 3_000_000, content: 'random' },
        { offsetBytes: 4_000_001, lengthBytes: 70_000, content: 'random' },
      ],
      slackBytes: 100_001,
    });
    await using opened = await openImage(path, { clusterSizeBytes: 4096 });
    const { image } = opened;
    const whole = Buffer.alloc(image.sizeBytes);
    await image.read(whole, 0, NEVER);
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: image.sizeBytes }), fc.nat({ max: image.sizeBytes }), async (a, b) => {
        const [start, end] = a < b ? [a, b] : [b, a];
        const chunks: Buffer[] = [];
        for await (const chunk of image.stream({ start, end, signal: NEVER })) chunks.push(Buffer.from(chunk));
        assert.ok(Buffer.concat(chunks).equals(whole.subarray(start, end)));
      }),
      { seed: SEED, numRuns: 200, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
    );
  });
});
