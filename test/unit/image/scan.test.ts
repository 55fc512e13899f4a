import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { scanDisk, type ZeroDetection } from '../../../src/image/scan.ts';
import type { DiskSource, SourceExtent } from '../../../src/sources/contract.ts';
import { NEVER, openSource } from '../../helpers/image-in-process.ts';
import { createMemoryDisk, type MemoryDisk } from '../../helpers/memory-disk.ts';
import { createDisk, type DiskPart } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('scan', () => {
  const temp = useTempDir();

  async function scan(
    sizeBytes: number,
    parts: readonly DiskPart[],
    clusterSizeBytes = 64 * KIB,
    zeroDetection: ZeroDetection = 'content',
  ) {
    const source = await openSource(await createDisk(temp('disk.img'), sizeBytes, parts));
    try {
      return await scanDisk({ source, clusterSizeBytes, zeroDetection, signal: NEVER });
    } finally {
      await source.dispose();
    }
  }

  it('counts a cluster of several extents once', async () => {
    const pieces = [0, 100, 300, 500, 700, 1000].map(
      (at): DiskPart => ({ offsetBytes: MIB + at * KIB, lengthBytes: 4 * KIB, content: 'random' }),
    );
    const map = await scan(4 * MIB, pieces, MIB);
    assert.deepEqual(map.clusters, { total: 4, data: 1, zero: 0, hole: 3 });
    assert.equal(map.dataRangeCount, 1);
  });

  it('counts a cluster as data if a hole begins or ends in it', async () => {
    const map = await scan(MIB, [{ offsetBytes: 60 * KIB, lengthBytes: 8 * KIB, content: 'random' }]);
    assert.deepEqual(map.clusters, { total: 16, data: 2, zero: 0, hole: 14 });
  });

  it('distinguishes written zeros from holes', async () => {
    const map = await scan(4 * MIB, [
      { offsetBytes: MIB, lengthBytes: MIB, content: 'zeros' },
      { offsetBytes: 3 * MIB, lengthBytes: 64 * KIB, content: 'random' },
    ]);
    assert.deepEqual(map.clusters, { total: 64, data: 1, zero: 16, hole: 47 });
  });

  it('trusts holes alone with zero detection by extents', async () => {
    const map = await scan(4 * MIB, [{ offsetBytes: MIB, lengthBytes: MIB, content: 'zeros' }], 64 * KIB, 'extents');
    assert.deepEqual(map.clusters, { total: 64, data: 16, zero: 0, hole: 48 });
  });

  it('finds the one byte at the end of a disk that ends inside a cluster', async () => {
    const map = await scan(MIB + 1, [{ offsetBytes: MIB, lengthBytes: 1, content: 'random' }]);
    assert.deepEqual(map.clusters, { total: 17, data: 1, zero: 0, hole: 16 });
  });

  it('has an empty map of an empty disk', async () => {
    assert.deepEqual((await scan(0, [])).clusters, { total: 0, data: 0, zero: 0, hole: 0 });
  });

  describe('with a disk in many short pieces', () => {
    const SECTOR = 512;
    /** Eight sectors of data alternate with eight sectors of holes; the number of a piece determines its content. */
    function inPieces(pieceCount: number, holeSectors = 8) {
      const step = (8 + holeSectors) * SECTOR;
      const bytes = Buffer.alloc(pieceCount * step);
      const extents: SourceExtent[] = [];
      for (let piece = 0; piece < pieceCount; piece += 1) {
        const offset = piece * step;
        // Every third piece holds written zeros.
        bytes.fill(piece % 3 === 0 ? 0 : 1, offset, offset + 8 * SECTOR);
        extents.push(
          { offset, length: 8 * SECTOR, kind: 'data' },
          { offset: offset + 8 * SECTOR, length: step - 8 * SECTOR, kind: 'zeros' },
        );
      }
      return createMemoryDisk(bytes, extents);
    }

    it('reads neighbours by one read, and still distinguishes holes from zeros', async () => {
      const disk = inPieces(3000);
      const data: number[] = [];
      const onData = (bytes: Uint8Array, offset: number) => {
        assert.ok(bytes.every((byte) => byte === 1));
        data.push(offset, bytes.length);
      };
      const map = await scanDisk({ source: disk.source, clusterSizeBytes: SECTOR, zeroDetection: 'content', signal: NEVER, onData });
      assert.deepEqual(map.clusters, { total: 48_000, data: 16_000, zero: 8000, hole: 24_000 });
      assert.ok(disk.readCount <= 3000 / 200, `${disk.readCount} reads`);
      assert.deepEqual(data.slice(0, 4), [8192, 4096, 16_384, 4096]);
      assert.equal(data.length, 2 * 2000);
    });

    it('does not read a hole that takes longer than another call', async () => {
      const disk = inPieces(100, 128);
      const map = await scanDisk({ source: disk.source, clusterSizeBytes: 4096, zeroDetection: 'content', signal: NEVER });
      assert.deepEqual(map.clusters, { total: 1700, data: 66, zero: 34, hole: 1600 });
      assert.equal(disk.readBytes, 100 * 4096);
    });

    /** The same disk, on which one sector cannot be read. */
    function withBrokenSector({ source }: MemoryDisk, brokenAt: number): DiskSource {
      return {
        ...source,
        async read(buffer, offset, signal) {
          await source.read(buffer, offset, signal);
          if (offset <= brokenAt && brokenAt < offset + buffer.length)
            throw new DiskliftError('SourceReadError', `cannot read at offset ${offset}`);
        },
      };
    }

    it('succeeds although a hole between the pieces cannot be read', async () => {
      const disk = inPieces(3000);
      const scanned = { clusterSizeBytes: 4096, zeroDetection: 'content', signal: NEVER } as const;
      const map = await scanDisk({ ...scanned, source: withBrokenSector(disk, 1000 * 8192 + 4096) });
      assert.deepEqual(map.clusters, { total: 6000, data: 2000, zero: 1000, hole: 3000 });
      assert.deepEqual([...map.ranges(0)], [...(await scanDisk({ ...scanned, source: disk.source })).ranges(0)]);
    });

    it('throws the error of the piece that cannot be read', async () => {
      const source = withBrokenSector(inPieces(3000), 1000 * 8192);
      const failed = scanDisk({ source, clusterSizeBytes: 4096, zeroDetection: 'content', signal: NEVER });
      await assert.rejects(failed, { message: `cannot read at offset ${1000 * 8192}` });
    });
  });

  describe('with a slow source', () => {
    const LATENCY_MS = 5;
    const READS = 40;

    /** Storage behind a network, as far as the scan can see: a latency and as many requests at a time as one likes. */
    function slowSource(onRead: (lengthBytes: number) => void, failAt = -1): DiskSource {
      const sizeBytes = READS * 2 * MIB;
      return {
        name: 'slow',
        sizeBytes,
        async *extents() {
          yield { offset: 0, length: sizeBytes, kind: 'data' };
        },
        async read(buffer, offset) {
          onRead(buffer.length);
          await delay(LATENCY_MS);
          if (offset === failAt) throw new DiskliftError('SourceReadError', `slow: cannot read at offset ${offset}: EIO`);
          buffer.fill(1);
        },
        identity: async () => ({}),
        dispose: async () => {},
      };
    }

    it('keeps several reads of at least 1 MiB in flight', async () => {
      const lengths: number[] = [];
      let [inFlight, mostInFlight] = [0, 0];
      const slow = slowSource((length) => lengths.push(length));
      const source: DiskSource = {
        ...slow,
        async read(buffer, offset, signal) {
          inFlight += 1;
          mostInFlight = Math.max(mostInFlight, inFlight);
          await slow.read(buffer, offset, signal);
          inFlight -= 1;
        },
      };
      const map = await scanDisk({ source, clusterSizeBytes: 512, zeroDetection: 'content', signal: NEVER });
      assert.equal(map.clusters.data, source.sizeBytes / 512);
      assert.ok(Math.min(...lengths) >= MIB);
      assert.equal(mostInFlight, 6);
    });

    it('fails with the error of the read that failed, and with no map', async () => {
      const source = slowSource(() => {}, 6 * MIB);
      await assert.rejects(scanDisk({ source, clusterSizeBytes: 65_536, zeroDetection: 'content', signal: NEVER }), {
        code: 'SourceReadError',
        message: /offset 6291456/,
      });
    });
  });
});
