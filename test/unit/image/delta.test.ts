/** Deltas from a disk in memory: what is read, what is refused, and what breaks the seal. */

import assert from 'node:assert/strict';
import { systemClock } from '../../../src/common/clock.ts';
import { type PreparedImage, type PrepareOptions, prepareImage } from '../../../src/image/prepare-image.ts';
import { DEFAULT_OPTIONS, NEVER } from '../../helpers/image-in-process.ts';
import { walkImage } from '../../helpers/qcow2-walker.ts';
import { type TrackedDisk, trackedDisk } from '../../helpers/tracked-disk.ts';

const KIB = 1024;
const CLUSTER = 64 * KIB;
const qcow2 = { ...DEFAULT_OPTIONS, backingFile: { name: 'full.qcow2', format: 'qcow2' } } as const;

function prepare({ source }: Pick<TrackedDisk, 'source'>, changes: Partial<PrepareOptions> = {}): Promise<PreparedImage> {
  return prepareImage({
    qcow2,
    zeroDetection: 'content',
    verify: 'never',
    openSource: async () => source,
    signal: NEVER,
    clock: systemClock,
    warn: (message) => assert.fail(message),
    ...changes,
  });
}

async function bytesOf({ image }: PreparedImage): Promise<Buffer> {
  const bytes = Buffer.alloc(image.sizeBytes);
  await image.read(bytes, 0, NEVER);
  return bytes;
}

describe('a delta', () => {
  it('holds changed clusters, calls zeroed ones zeros, and leaves the others to the base', async () => {
    const tracked = trackedDisk('UCuZcUUC', CLUSTER);
    const prepared = await prepare(tracked);
    assert.deepEqual(prepared.layout.map.clusters, { total: 8, data: 2, zero: 1, hole: 1, unchanged: 4 });
    const image = await bytesOf(prepared);
    const { mapping, zeros, backing } = walkImage(image);
    assert.deepEqual([...mapping.keys()], [1, 7]);
    assert.deepEqual(zeros, [3, 4]);
    assert.deepEqual(backing, { name: 'full.qcow2', format: 'qcow2' });
    for (const [guest, host] of mapping)
      assert.ok(image.subarray(host, host + CLUSTER).equals(tracked.disk.bytes.subarray(guest * CLUSTER, (guest + 1) * CLUSTER)));
  });

  it('reads nothing of a disk on which nothing has changed, and has no L2 table', async () => {
    const tracked = trackedDisk('UuU'.repeat(100), CLUSTER);
    const prepared = await prepare(tracked, { verify: 'auto' });
    await prepared.seal();
    assert.equal(tracked.disk.readCount, 0);
    assert.deepEqual(prepared.layout.map.clusters, { total: 300, data: 0, zero: 0, hole: 0, unchanged: 300 });
    assert.equal(prepared.image.sizeBytes, 4 * CLUSTER);
  });

  it('fills a cluster of which a part has changed from the same point in time', async () => {
    const tracked = trackedDisk('UUUUUCuuUUUUUUUUuuuuuucu', 16 * KIB);
    const prepared = await prepare(tracked);
    const image = await bytesOf(prepared);
    const { mapping, zeros } = walkImage(image);
    assert.deepEqual([...mapping.keys()], [1]);
    assert.deepEqual(zeros, [5]);
    const host = mapping.get(1) as number;
    assert.ok(image.subarray(host, host + CLUSTER).equals(tracked.disk.bytes.subarray(CLUSTER, 2 * CLUSTER)));
  });

  it('reads with extents alone only what it sends, and still tells reported zeros from unchanged clusters', async () => {
    const tracked = trackedDisk('UCuZcUUC', CLUSTER);
    const prepared = await prepare(tracked, { zeroDetection: 'extents' });
    assert.equal(tracked.disk.readCount, 0);
    assert.deepEqual(prepared.layout.map.clusters, { total: 8, data: 3, zero: 0, hole: 1, unchanged: 4 });
  });

  it('reads short changes that follow each other closely at once, and maps each right', async () => {
    const tracked = trackedDisk('CUZUcUC'.repeat(50), 4 * KIB);
    const prepared = await prepare(tracked, { qcow2: { ...qcow2, clusterSizeBytes: 4 * KIB } });
    assert.ok(tracked.disk.readCount <= 2, `${tracked.disk.readCount} reads`);
    assert.deepEqual(prepared.layout.map.clusters, { total: 350, data: 100, zero: 50, hole: 50, unchanged: 150 });
    const { mapping, zeros } = walkImage(await bytesOf(prepared));
    assert.deepEqual([...mapping.keys()].slice(0, 4), [0, 6, 7, 13]);
    assert.deepEqual(zeros.slice(0, 4), [2, 4, 9, 11]);
  });

  it('counts what was scanned up to the end of the disk', async () => {
    const scanned: number[] = [];
    await prepare(trackedDisk('CUUC'.repeat(20), CLUSTER), { onScanned: (bytes) => scanned.push(bytes) });
    assert.equal(scanned.at(-1), 80 * CLUSTER);
    assert.deepEqual(
      scanned.toSorted((a, b) => a - b),
      scanned,
    );
  });

  for (const verify of ['never', 'auto'] as const)
    it(`is broken by a block that the map calls changed only after the scan, with verify ${verify}`, async () => {
      const tracked = trackedDisk('UCuZcUUC', CLUSTER);
      const prepared = await prepare(tracked, { verify });
      await prepared.seal();
      tracked.changes = trackedDisk('CCuZcUUC', CLUSTER).changes;
      await assert.rejects(prepared.seal(), { code: 'SourceChanged', message: /^memory: changed while it was read \(changes\)/ });
    });

  it('is broken by a changed byte in what it sends, and by none in what it leaves to the base', async () => {
    const tracked = trackedDisk('UCuZcUUC', CLUSTER);
    const first = await prepare(tracked, { verify: 'auto' });
    tracked.disk.bytes[5 * CLUSTER] = 1;
    await first.seal();
    const second = await prepare(tracked, { verify: 'auto' });
    tracked.disk.bytes[CLUSTER + 9] = 1;
    await assert.rejects(second.seal(), { code: 'SourceChanged', message: /in the MiB at offset 0/ });
  });

  it('has another fingerprint for another base and for other changes', async () => {
    const { image } = await prepare(trackedDisk('UCuZ', CLUSTER));
    const others = [
      await prepare(trackedDisk('UCuZ', CLUSTER), { qcow2: { ...qcow2, backingFile: { name: 'old.qcow2', format: 'qcow2' } } }),
      await prepare(trackedDisk('UCcZ', CLUSTER)),
      await prepare(trackedDisk('CCuZ', CLUSTER)),
    ];
    assert.equal(new Set([image, ...others.map((other) => other.image)].map(({ fingerprint }) => fingerprint)).size, 4);
    assert.equal((await prepare(trackedDisk('UCuZ', CLUSTER))).image.fingerprint, image.fingerprint);
  });

  describe('on a base of another size', () => {
    it('holds what lies behind the base, unless it is zeros', async () => {
      const prepared = await prepare(trackedDisk('UUuUuc', CLUSTER), { baseSizeBytes: 2 * CLUSTER });
      const { mapping, zeros, virtualSizeBytes } = walkImage(await bytesOf(prepared));
      assert.deepEqual([[...mapping.keys()], zeros, virtualSizeBytes], [[3], [5], 6 * CLUSTER]);
    });

    it('is refused where the disk has shrunk, before anything is read', async () => {
      const tracked = trackedDisk('UCU', CLUSTER);
      await assert.rejects(prepare(tracked, { baseSizeBytes: 3 * CLUSTER + 512 }), {
        code: 'InvalidRequest',
        message: /^memory: has 196608 bytes, fewer than the 197120 of its base; .* so make a full image$/,
      });
      assert.equal(tracked.disk.readCount, 0);
    });
  });

  it('needs a source with a map of changes', async () => {
    const { disk } = trackedDisk('UCU', CLUSTER);
    await assert.rejects(prepare({ source: disk.source }), {
      code: 'InvalidRequest',
      message: /needs a source that reports what has changed/,
    });
  });

  it('fails with the error of the map', async () => {
    const tracked = trackedDisk('UCU', CLUSTER);
    tracked.source.identity = tracked.disk.source.identity;
    const changed = {
      // biome-ignore lint/correctness/useYield: it fails before its first extent
      async *extents() {
        throw new Error('no map');
      },
    };
    await assert.rejects(prepare({ source: { ...tracked.source, changed } }), /^Error: no map$/);
  });
});
