/** Block hashes as a source of changes, on disks in memory. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../../src/common/errors.ts';
import { type PreparedImage, prepareImage } from '../../../../../src/image/prepare-image.ts';
import { trackBlocks } from '../../../../../src/sources/changed/block-hashes/track-blocks.ts';
import type { ChangedExtent, TrackedSource } from '../../../../../src/sources/changed/contract.ts';
import type { SourceExtent } from '../../../../../src/sources/contract.ts';
import { blocksOfDisk, bytesOfFile, hang, rangedFile, trackedOn } from '../../../../helpers/block-hashes.ts';
import { DEFAULT_OPTIONS, NEVER } from '../../../../helpers/image-in-process.ts';
import { createMemoryDisk, type MemoryDisk } from '../../../../helpers/memory-disk.ts';
import { createRandom, SEED, SEED_TEXT, seedOf } from '../../../../helpers/seed.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Letters are blocks of one byte's value; '-' is a hole, '0' are zeros that must be read. */
function diskOf(letters: string, extraBytes = 0): MemoryDisk {
  const bytes = Buffer.alloc(letters.length * MIB + extraBytes);
  const extents: SourceExtent[] = [];
  for (const [block, letter] of [...letters].entries()) {
    if (letter !== '-' && letter !== '0') bytes.fill(letter, block * MIB, (block + 1) * MIB);
    extents.push({ offset: block * MIB, length: MIB, kind: letter === '-' ? 'zeros' : 'data' });
  }
  if (extraBytes > 0) extents.push({ offset: letters.length * MIB, length: extraBytes, kind: 'data' });
  return createMemoryDisk(bytes, extents);
}

async function mapOf(source: TrackedSource, signal = NEVER): Promise<ChangedExtent[]> {
  const extents: ChangedExtent[] = [];
  for await (const extent of source.changed?.extents(signal) ?? []) extents.push(extent);
  return extents;
}

/** C: changed data, c: changed zeros, U and u: unchanged. */
async function lettersOf(source: TrackedSource): Promise<string> {
  let at = 0;
  return (await mapOf(source))
    .map(({ offset, length, kind, isChanged }) => {
      assert.equal(offset, at);
      at += length;
      const letter = isChanged ? 'C' : 'U';
      return (kind === 'data' ? letter : letter.toLowerCase()).repeat(Math.ceil(length / MIB));
    })
    .join('');
}

function prepareDelta(
  source: TrackedSource,
  verify: 'auto' | 'never' = 'auto',
  onScanned?: (bytes: number) => void,
): Promise<PreparedImage> {
  return prepareImage({
    qcow2: { ...DEFAULT_OPTIONS, backingFile: { name: 'full.qcow2', format: 'qcow2' } },
    zeroDetection: 'content',
    verify,
    onScanned,
    openSource: async () => source,
    signal: NEVER,
    clock: systemClock,
    warn: (message) => assert.fail(message),
  });
}

describe('block hashes', () => {
  it('show which blocks differ from the base, also holes where the base has data', async () => {
    const base = await blocksOfDisk(diskOf('ab-0cd--').source);
    assert.equal(await lettersOf(await trackedOn(diskOf('aB-e--0f').source, base)), 'UCuCccuC');
  });

  it('do not read holes, and read each block of data once', async () => {
    const base = await blocksOfDisk(diskOf('a-------bb').source);
    const disk = diskOf('a---x---bb');
    await mapOf(await trackedOn(disk.source, base));
    assert.deepEqual([disk.readCount, disk.readBytes], [4, 4 * MIB]);
  });

  it('treat a disk that grew as zeros behind the end of its base', async () => {
    const base = await blocksOfDisk(diskOf('ab', 512).source);
    const same = diskOf('ab0-x', 512);
    assert.equal(await lettersOf(await trackedOn(same.source, base)), 'UUuuCu');
    const tracked = await trackedOn(diskOf('abc').source, base);
    assert.equal(tracked.changed?.baseSizeBytes, 2 * MIB + 512);
    assert.equal(await lettersOf(tracked), 'UUC');
  });

  it('refuse a disk that shrank, and a size of the base that is not theirs', async () => {
    const base = await blocksOfDisk(diskOf('abc').source);
    const refused = { code: 'InvalidRequest' };
    const shrunk = await trackedOn(diskOf('ab').source, base);
    await assert.rejects(prepareDelta(shrunk), { ...refused, message: /has 2097152 bytes, fewer than the 3145728 of its base/ });
    const options = { qcow2: { ...DEFAULT_OPTIONS, backingFile: { name: 'f', format: 'raw' } }, zeroDetection: 'content' } as const;
    const tracked = await trackedOn(diskOf('abcd').source, base);
    const prepared = prepareImage({
      ...options,
      baseSizeBytes: 4 * MIB,
      openSource: async () => tracked,
      signal: NEVER,
      clock: systemClock,
      warn: () => {},
    });
    await assert.rejects(prepared, {
      code: 'ChangesRefused',
      message: /base has 4194304 bytes, and the map of changes counts from a disk of 3145728/,
    });
  });

  it('leave the hashes for the next delta, the same as those of a full image', async () => {
    const base = await blocksOfDisk(diskOf('abc').source);
    const tracked = await trackedOn(diskOf('aBc-d', 100).source, base);
    assert.throws(() => tracked.blocks(), RangeError, 'nothing is hashed yet');
    await mapOf(tracked);
    const file = tracked.blocks();
    const bytes = await bytesOfFile(file);
    assert.equal(bytes.length, file.sizeBytes);
    for (const clusterSizeBytes of [4 * KIB, 64 * KIB, 2 * MIB])
      assert.ok(bytes.equals(await blocksOfDisk(diskOf('aBc-d', 100).source, clusterSizeBytes)), `${clusterSizeBytes}`);
    assert.equal(await lettersOf(await trackedOn(diskOf('aBc-d', 100).source, bytes)), 'UUUuUu');
  });

  it('also work for a disk of 0 bytes that grows', async () => {
    const base = await blocksOfDisk(diskOf('').source);
    assert.equal(base.length, 96);
    assert.equal(await lettersOf(await trackedOn(diskOf('a-0').source, base)), 'Cuu');
  });

  it('are the SHA-256 of each block, filled up with zeros', async () => {
    const file = await blocksOfDisk(diskOf('a', 100).source);
    const block = Buffer.alloc(MIB, 'a');
    assert.deepEqual(file.subarray(64, 96), createHash('sha256').update(block).digest());
    assert.deepEqual(file.subarray(96, 128), Buffer.alloc(32), 'zeros');
  });

  it(`agree with the content of random disks, whose blocks are partly holes and come in any order ${SEED_TEXT}`, async () => {
    for (let round = 0; round < 25; round += 1) {
      const random = createRandom(seedOf(round));
      const below = (limit: number) => Math.floor(random() * limit);
      const sizeBytes = 1 + below(9 * MIB);
      const randomDisk = (before?: Buffer): MemoryDisk => {
        const bytes = Buffer.alloc(sizeBytes);
        before?.copy(bytes);
        for (let count = below(6); count > 0; count -= 1) {
          const offset = below(sizeBytes);
          bytes.fill(random() < 0.4 ? 0 : 1 + below(255), offset, Math.min(sizeBytes, offset + 1 + below(2 * MIB)));
        }
        const extents: SourceExtent[] = [];
        for (let offset = 0; offset < sizeBytes; ) {
          const length = Math.min(1 + below(700 * KIB), sizeBytes - offset);
          const isZero = bytes.subarray(offset, offset + length).every((byte) => byte === 0);
          extents.push({ offset, length, kind: isZero && random() < 0.8 ? 'zeros' : 'data' });
          offset += length;
        }
        const disk = createMemoryDisk(bytes, extents);
        disk.onRead = () => delay(below(3));
        return disk;
      };
      const old = randomDisk();
      const clusterSizeBytes = 512 * 2 ** below(13);
      const base = await blocksOfDisk(old.source, clusterSizeBytes);
      const now = randomDisk(old.bytes);
      const tracked = await trackedOn(now.source, base);
      for (const { offset, length, kind, isChanged } of await mapOf(tracked))
        for (let at = offset; at < offset + length; at += MIB) {
          const [block, earlier] = [now, old].map(({ bytes }) => bytes.subarray(at, at + MIB)) as [Buffer, Buffer];
          const truth = [block.every((byte) => byte === 0) ? 'zeros' : 'data', !block.equals(earlier)];
          assert.deepEqual([kind, isChanged], truth, `block at ${at}, round ${round} of seed ${SEED}`);
        }
      assert.ok((await bytesOfFile(tracked.blocks())).equals(await blocksOfDisk(now.source, clusterSizeBytes)), `round ${round}`);
    }
  });

  describe('on a disk that does not show writes', () => {
    const states = { before: 'abc---', now: 'aBc-d-' };

    /** @param write changes the disk in front of the second reading of a block of `now` */
    async function sealWhile(write?: (bytes: Buffer) => void): Promise<{ disk: MemoryDisk; seal: Promise<void> }> {
      const base = await blocksOfDisk(diskOf(states.before).source);
      const disk = diskOf(states.now);
      const source = {
        ...disk.source,
        async openAgain() {
          write?.(disk.bytes);
          return disk.source;
        },
      };
      const seal = async () => (await prepareDelta(await trackedOn(source, base))).seal();
      return { disk, seal: seal() };
    }

    it('are compared with a second reading of the whole disk', async () => {
      const { disk, seal } = await sealWhile();
      await seal;
      // Hashed twice; the two changed blocks are scanned and compared as well.
      assert.equal(disk.readBytes, (4 + 4 + 2 + 2) * MIB);
    });

    for (const [what, offset] of [
      ['an unchanged block', 2 * MIB + 5],
      ['a changed block', MIB],
    ] as const)
      it(`fail the image when ${what} is written to after it was hashed`, async () => {
        const { seal } = await sealWhile((bytes) => bytes.write('!', offset));
        const block = Math.floor(offset / MIB) * MIB;
        await assert.rejects(seal, { code: 'SourceChanged', message: new RegExp(`in the MiB at offset ${block};`) });
      });

    it('fail the image when a hole is written to after it was hashed', async () => {
      const base = await blocksOfDisk(diskOf(states.before).source);
      const source = { ...diskOf(states.now).source, openAgain: async () => diskOf('aBcxd-').source };
      await assert.rejects(prepareDelta(await trackedOn(source, base)), { code: 'SourceChanged', message: /at offset 3145728;/ });
    });

    it('fail the image when a block of data has become a hole after it was hashed', async () => {
      const base = await blocksOfDisk(diskOf(states.before).source);
      const source = { ...diskOf(states.now).source, openAgain: async () => diskOf('aB--d-').source };
      await assert.rejects(prepareDelta(await trackedOn(source, base)), { code: 'SourceChanged', message: /at offset 2097152;/ });
    });
  });

  it('report progress while the disk is hashed and hashed again', async () => {
    const base = await blocksOfDisk(diskOf('abcd').source);
    const tracked = await trackedOn(diskOf('abcd').source, base);
    const scanned: number[] = [];
    await prepareDelta(tracked, 'auto', (bytes) => scanned.push(bytes / MIB));
    assert.deepEqual(scanned, [1, 2, 3, 4, 4, 4, 4, 4, 4]);
  });

  it('need no second reading of a disk that shows writes', async () => {
    const base = await blocksOfDisk(diskOf('abc').source);
    const disk = diskOf('aBc');
    const prepared = await prepareDelta(await trackedOn({ ...disk.source, identityMissesWrites: false }, base));
    await prepared.seal();
    assert.equal(disk.readBytes, (3 + 1) * MIB);
  });

  it('make another image of the same disk on another base', async () => {
    const source = { ...diskOf('abc').source, identityMissesWrites: false };
    const fingerprints = await Promise.all(
      ['xbc', 'ybc', 'xbc'].map(async (letters) => {
        const base = await blocksOfDisk(diskOf(letters).source);
        return (await prepareDelta(await trackedOn(source, base))).image.fingerprint;
      }),
    );
    assert.notEqual(fingerprints[0], fingerprints[1]);
    assert.equal(fingerprints[0], fingerprints[2]);
  });

  it('come from the reading of the scan for a full image', async () => {
    const disk = diskOf('ab-0');
    const source = { ...disk.source, identityMissesWrites: false, showsData: () => true };
    await blocksOfDisk(source);
    assert.equal(disk.readBytes, 3 * MIB);
  });

  for (const [what, changes, message] of [
    ['without zero detection by content', { zeroDetection: 'extents' }, /need a scan that reads the data/],
    ['of a disk that does not show writes and is not compared', { verify: 'never' }, /need the disk to be compared/],
    ['of a verbatim image', { layout: 'Verbatim', verify: 'never' }, /need a scan that reads the data/],
  ] as const)
    it(`are refused for a full image ${what}`, async () => {
      const tracked = await trackBlocks(diskOf('ab').source, { signal: NEVER });
      const options = { qcow2: DEFAULT_OPTIONS, zeroDetection: 'content', ...changes } as const;
      const preparing = prepareImage({ ...options, openSource: async () => tracked, signal: NEVER, clock: systemClock, warn: () => {} });
      await assert.rejects(preparing, { code: 'InvalidRequest', message });
      assert.throws(() => tracked.blocks(), RangeError);
    });

  it("are recorded beside a source's own map of changes", async () => {
    const disk = diskOf('aBc');
    const own: TrackedSource = {
      ...disk.source,
      changed: {
        async *extents() {
          yield { offset: 0, length: MIB, kind: 'data', isChanged: false };
          yield { offset: MIB, length: 2 * MIB, kind: 'data', isChanged: true };
        },
      },
    };
    const tracked = await trackBlocks(own, { signal: NEVER });
    await (await prepareDelta(tracked)).seal();
    assert.ok((await bytesOfFile(tracked.blocks())).equals(await blocksOfDisk(diskOf('aBc').source)));
    const late = await trackBlocks({ ...own, openAgain: async () => diskOf('xBc').source }, { signal: NEVER });
    await assert.rejects(prepareDelta(late), { code: 'SourceChanged' });
  });

  it('pass on a read error with its offset, and leave no read behind', async () => {
    const disk = diskOf('abcdefgh');
    const base = await blocksOfDisk(diskOf('abcdefgh').source);
    let running = 0;
    const read = disk.source.read;
    const source: TrackedSource = {
      ...disk.source,
      async read(buffer, offset, signal) {
        running += 1;
        try {
          if (offset === 2 * MIB) throw new DiskliftError('SourceReadError', `memory: cannot read at offset ${offset}: EIO`);
          await delay(5);
          await read(buffer, offset, signal);
        } finally {
          running -= 1;
        }
      },
    };
    await assert.rejects(mapOf(await trackedOn(source, base)), { code: 'SourceReadError', message: /offset 2097152: EIO/ });
    assert.equal(running, 0);
  });

  it('end at once with a cancel while a read hangs', async () => {
    const disk = diskOf('abcd');
    const base = await blocksOfDisk(diskOf('abcd').source);
    disk.onRead = (count, signal) => (count === 1 ? hang(signal) : undefined);
    const cancel = new AbortController();
    const mapping = mapOf(await trackedOn(disk.source, base), cancel.signal);
    setTimeout(() => cancel.abort(), 20);
    await assert.rejects(mapping, { code: 'Cancelled' });
  });

  it('are refused for a source whose extents have a gap', async () => {
    const base = await blocksOfDisk(diskOf('abcd').source);
    const { bytes, source } = diskOf('abcd');
    for (const extents of [
      [{ offset: 0, length: MIB, kind: 'data' }],
      [
        { offset: 0, length: MIB, kind: 'data' },
        { offset: 2 * MIB, length: 2 * MIB, kind: 'data' },
      ],
    ] as const)
      await assert.rejects(mapOf(await trackedOn(createMemoryDisk(bytes, extents).source, base)), {
        code: 'SourceReadError',
        message: /have a gap or an overlap at offset 1048576/,
      });
    assert.ok(source.sizeBytes > 0);
  });

  it('close the disk and the file when either cannot be used, and when they are disposed', async () => {
    const closed: string[] = [];
    const { source: plain } = diskOf('ab');
    const source = { ...plain, dispose: async () => void closed.push('disk') };
    const base = await blocksOfDisk(diskOf('ab').source);
    const file = (bytes: Uint8Array) => ({ ...rangedFile(bytes), close: async () => void closed.push('file') });
    await assert.rejects(trackBlocks(source, { openBase: async () => file(Buffer.alloc(64)), signal: NEVER }), {
      code: 'ChangesRefused',
    });
    assert.deepEqual(closed.splice(0), ['disk', 'file']);
    await assert.rejects(trackBlocks(source, { openBase: async () => Promise.reject(new Error('away')), signal: NEVER }), /away/);
    assert.deepEqual(closed.splice(0), ['disk']);
    const tracked = await trackBlocks(source, { openBase: async () => file(base), signal: NEVER });
    await tracked.dispose();
    assert.deepEqual(closed.splice(0), ['disk', 'file']);
    const cancel = new AbortController();
    const late = Promise.withResolvers<ReturnType<typeof file>>();
    const opening = trackBlocks(source, { openBase: () => late.promise, signal: cancel.signal });
    cancel.abort();
    await assert.rejects(opening, { code: 'Cancelled' });
    late.resolve(file(base));
    await delay(1);
    assert.deepEqual(closed, ['disk', 'file'], 'also a file that is open only after the cancel');
  });
});
