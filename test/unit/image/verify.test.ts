import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import fc from 'fast-check';
import { systemClock } from '../../../src/common/clock.ts';
import type { VirtualImage } from '../../../src/image/contract.ts';
import { type PreparedImage, type PrepareOptions, prepareImage } from '../../../src/image/prepare-image.ts';
import { createVirtualImage } from '../../../src/image/virtual-image.ts';
import type { SourceExtent } from '../../../src/sources/contract.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from '../../helpers/image-in-process.ts';
import { attachLoopDevice, requireLoopDevices } from '../../helpers/loop-device.ts';
import { createMemoryDisk, type MemoryDisk } from '../../helpers/memory-disk.ts';
import { createRandom, SEED, SEED_TEXT } from '../../helpers/seed.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const PATTERN = Buffer.from(Array.from({ length: 251 }, (_, index) => index + 1));

interface Part {
  kind: 'data' | 'zeros' | 'hole';
  length: number;
}

/** @param parts in order; 'zeros' are read, holes are not. */
function diskOf(parts: readonly Part[]): MemoryDisk {
  const bytes = Buffer.alloc(parts.reduce((sum, { length }) => sum + length, 0));
  const extents: SourceExtent[] = [];
  let offset = 0;
  for (const { kind, length } of parts) {
    // No other size is a multiple of this length, so bytes at a wrong place differ.
    if (kind === 'data') bytes.fill(PATTERN, offset, offset + length);
    extents.push({ offset, length, kind: kind === 'hole' ? 'zeros' : 'data' });
    offset += length;
  }
  return createMemoryDisk(bytes, extents);
}

function prepare(disk: MemoryDisk, changes: Partial<PrepareOptions> = {}): Promise<PreparedImage> {
  return prepareImage({
    qcow2: DEFAULT_OPTIONS,
    zeroDetection: 'content',
    openSource: async () => disk.source,
    signal: NEVER,
    clock: systemClock,
    warn: (message) => assert.fail(message),
    ...changes,
  });
}

async function streamed({ image }: PreparedImage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of image.stream({ signal: NEVER })) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** Reads pieces of the image in any order, several at once. */
async function readInPieces(image: VirtualImage, pieceBytes: number, seed: number): Promise<Buffer> {
  const whole = Buffer.alloc(image.sizeBytes);
  const random = createRandom(seed);
  const offsets = Array.from({ length: Math.ceil(whole.length / pieceBytes) }, (_, index) => index * pieceBytes);
  const order = offsets.map((offset) => ({ offset, place: random() })).sort((a, b) => a.place - b.place);
  for (let at = 0; at < order.length; at += 3) {
    const reads = order.slice(at, at + 3).map(({ offset }) => image.read(whole.subarray(offset, offset + pieceBytes), offset, NEVER));
    await Promise.all(reads);
  }
  return whole;
}

/** The image of a disk of these bytes by this layout. The bytes must be zeros where the layout leaves them out. */
async function imageOf(bytes: Buffer, { layout }: PreparedImage): Promise<Buffer> {
  const { source } = createMemoryDisk(bytes, []);
  for (const { kind, firstCluster, clusterCount } of layout.map.ranges()) {
    const [start, end] = [firstCluster, firstCluster + clusterCount].map((cluster) => cluster * layout.map.clusterSizeBytes);
    if (kind !== 'data')
      assert.ok(
        bytes.subarray(start, end).every((byte) => byte === 0),
        `zeros from ${start} to ${end}`,
      );
  }
  const whole = Buffer.alloc(layout.imageSizeBytes);
  await createVirtualImage({ source, layout, identity: {} }).read(whole, 0, NEVER);
  return whole;
}

describe('verify', () => {
  const temp = useTempDir();

  const MIXED: Part[] = [
    { kind: 'data', length: 3 * MIB + 64 * KIB },
    { kind: 'zeros', length: 4 * MIB },
    { kind: 'hole', length: 5 * MIB },
    { kind: 'data', length: 64 * KIB },
    { kind: 'hole', length: 64 * KIB },
    { kind: 'data', length: MIB + 1000 },
  ];
  const READ_BYTES = 8 * MIB + 128 * KIB + 1000;

  it('changes neither the image nor the size of a quiet disk', async () => {
    const disk = diskOf(MIXED);
    const plain = await streamed(await prepare(disk, { verify: 'never' }));
    const prepared = await prepare(disk);
    assert.ok((await streamed(prepared)).equals(plain));
    await prepared.seal();
  });

  it('reads all but holes twice, and only twice when the image is streamed', async () => {
    const disk = diskOf(MIXED);
    const prepared = await prepare(disk);
    assert.equal(disk.readBytes, READ_BYTES);
    await streamed(prepared);
    await prepared.seal();
    assert.equal(disk.readBytes, 2 * READ_BYTES);
    await prepared.seal();
    assert.equal(disk.readBytes, 2 * READ_BYTES, 'sealed again');
  });

  it('compares zeros along the way, in proportion to the data', async () => {
    const disk = diskOf([
      { kind: 'data', length: 4 * MIB },
      { kind: 'zeros', length: 40 * MIB },
      { kind: 'data', length: 4 * MIB },
    ]);
    const { image, layout, seal } = await prepare(disk);
    const scannedBytes = disk.readBytes;
    await image.read(Buffer.alloc(4 * MIB), layout.dataOffset, NEVER);
    assert.equal(disk.readBytes - scannedBytes, 24 * MIB, 'with half of the data half of the zeros');
    await image.read(Buffer.alloc(4 * MIB), layout.dataOffset + 4 * MIB, NEVER);
    assert.equal(disk.readBytes - scannedBytes, 48 * MIB);
    await seal();
    assert.equal(disk.readBytes - scannedBytes, 48 * MIB);
  });

  const PLACES: [string, number][] = [
    ['in the first byte', 0],
    ['in data', 2 * MIB + 5],
    ['in zeros that share a MiB with data', 3 * MIB + 64 * KIB],
    ['in zeros that nobody asks for', 5 * MIB],
    ['in the last byte, of a MiB that has a hole', 13 * MIB + 192 * KIB + 999],
  ];
  for (const [where, position] of PLACES)
    it(`notices a byte that was changed ${where} since it was scanned, and names its MiB`, async () => {
      const disk = diskOf(MIXED);
      const prepared = await prepare(disk);
      disk.bytes[position] = (disk.bytes[position] as number) ^ 1;
      const changed = { code: 'SourceChanged', message: new RegExp(`memory: .*MiB at offset ${Math.floor(position / MIB) * MIB};`) };
      await assert.rejects(prepared.seal(), changed);
      await assert.rejects(streamed(prepared), changed);
    });

  it('ignores a change after the last read of its MiB', async () => {
    const disk = diskOf(MIXED);
    const prepared = await prepare(disk);
    const before = Buffer.from(disk.bytes);
    const image = await streamed(prepared);
    disk.bytes.fill(7);
    await prepared.seal();
    assert.ok(image.equals(await imageOf(before, prepared)));
  });

  it(`gives the disk as it was when the scan ended, or SourceChanged, whichever byte changes when ${SEED_TEXT}`, async function () {
    this.timeout(60_000);
    const part = fc.record({
      kind: fc.constantFrom<Part['kind']>('data', 'data', 'zeros', 'hole'),
      length: fc.oneof(fc.integer({ min: 1, max: 90 * KIB }), fc.integer({ min: 1, max: 3 * MIB })),
    });
    const outcomes = { sealed: 0, changed: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          parts: fc.array(part, { minLength: 1, maxLength: 6 }),
          clusterSizeBytes: fc.constantFrom(4 * KIB, 64 * KIB, 2 * MIB),
          changeAtRead: fc.nat({ max: 40 }),
          changedByte: fc.nat(),
          pieceBytes: fc.constantFrom(undefined, 70_001, MIB, 3 * MIB),
          onlyFirstPiece: fc.boolean(),
        }),
        async ({ parts, clusterSizeBytes, changeAtRead, changedByte, pieceBytes, onlyFirstPiece }) => {
          const disk = diskOf(parts);
          const readable = parts.flatMap(({ kind, length }, index) => {
            const start = parts.slice(0, index).reduce((sum, earlier) => sum + earlier.length, 0);
            return kind === 'hole' ? [] : [{ start, length }];
          });
          const place = readable[changedByte % readable.length];
          disk.onRead = (readsBefore) => {
            if (readsBefore !== changeAtRead || place === undefined) return;
            const position = place.start + (changedByte % place.length);
            disk.bytes[position] = (disk.bytes[position] as number) ^ 0x10;
          };
          const prepared = await prepare(disk, { qcow2: { ...DEFAULT_OPTIONS, clusterSizeBytes } });
          const atScan = Buffer.from(disk.bytes);
          try {
            if (onlyFirstPiece) await prepared.image.read(Buffer.alloc(Math.min(70_001, prepared.image.sizeBytes)), 0, NEVER);
            const { image } = prepared;
            const whole = pieceBytes === undefined ? await streamed(prepared) : await readInPieces(image, pieceBytes, changedByte);
            await prepared.seal();
            assert.ok(whole.equals(await imageOf(atScan, prepared)), 'a wrong image was sealed');
            outcomes.sealed += 1;
          } catch (error) {
            assert.equal((error as { code?: string }).code, 'SourceChanged', `${(error as Error).stack}`);
            outcomes.changed += 1;
          }
        },
      ),
      { seed: SEED, numRuns: 120, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
    );
    assert.ok(outcomes.sealed > 0 && outcomes.changed > 0, `both happen: ${JSON.stringify(outcomes)}`);
  });

  it('continues for other readers when the reader that began to read a MiB is cancelled', async () => {
    const disk = diskOf([{ kind: 'data', length: 2 * MIB }]);
    const { image, layout } = await prepare(disk);
    const controller = new AbortController();
    // The read of the one that is cancelled never ends; a second one of the same MiB does.
    disk.onRead = (_, signal) => (signal === controller.signal ? new Promise<void>(() => {}) : undefined);
    const cancelled = image.read(Buffer.alloc(100), layout.dataOffset, controller.signal);
    const buffer = Buffer.alloc(100);
    const other = image.read(buffer, layout.dataOffset + 50, NEVER);
    controller.abort();
    await assert.rejects(cancelled, { code: 'Cancelled' });
    await other;
    assert.ok(buffer.equals(disk.bytes.subarray(50, 150)));
  });

  it('has a fingerprint that covers the content', async () => {
    const disk = diskOf(MIXED);
    const { fingerprint } = (await prepare(disk)).image;
    assert.equal((await prepare(disk)).image.fingerprint, fingerprint);
    disk.bytes[2 * MIB] = 0xff;
    assert.notEqual((await prepare(disk)).image.fingerprint, fingerprint);
  });

  it('is refused, or causes a warning, if the disk is read only once', async () => {
    const disk = diskOf([{ kind: 'hole', length: MIB }]);
    await assert.rejects(prepare(disk, { verify: 'always', zeroDetection: 'extents' }), {
      code: 'InvalidRequest',
      message: /zero detection/,
    });
    const warnings: string[] = [];
    await (await prepare(disk, { zeroDetection: 'extents', warn: (message) => warnings.push(message) })).seal();
    assert.match(warnings.join('\n'), /^memory: .* unnoticed$/);
  });

  it('detects a write to a file that its times do not show, with verify always', async () => {
    const path = await createDisk(temp('disk.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 3 * MIB, content: 'random' }]);
    const source = await openSource(path);
    // As on a file system that does not keep times.
    const timeless = { ...source, identity: async () => ({}) };
    const always = await prepareImage({ ...OPTIONS, verify: 'always', openSource: async () => timeless });
    assert.equal(always.image.fileExtents, undefined, 'bytes that nobody sees');
    await using auto = await prepareImage({ ...OPTIONS, openSource: async () => timeless });
    assert.notEqual(auto.image.fileExtents, undefined, 'files have times, so nothing is read again');
    await flip(path, MIB);
    await auto.seal();
    await assert.rejects(always.seal(), { code: 'SourceChanged', message: /at offset 1048576;/ });
  });

  describe('with a block device', () => {
    before(function () {
      return requireLoopDevices(this);
    });

    for (const [what, offsetBytes] of [
      ['data', 2 * MIB + 7],
      ['zeros', 12 * MIB],
    ] as const)
      it(`notices that ${what} changed beneath it, and only then`, async () => {
        const backing = await createDisk(temp('backing.img'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 4 * MIB, content: 'random' }]);
        await using loop = await attachLoopDevice(backing);
        await using prepared = await prepareImage({ ...OPTIONS, openSource: () => openSource(loop.path) });
        const image = await streamed(prepared);
        await prepared.seal();
        await flip(backing, offsetBytes);
        await using again = await prepareImage({ ...OPTIONS, openSource: () => openSource(loop.path) });
        assert.ok(!(await streamed(again)).equals(image), 'a new scan takes what is there now');
        await again.seal();

        await using changed = await prepareImage({ ...OPTIONS, openSource: () => openSource(loop.path) });
        await flip(backing, offsetBytes);
        await assert.rejects(
          async () => {
            await streamed(changed);
            await changed.seal();
          },
          { code: 'SourceChanged', message: new RegExp(`${loop.path}: .*MiB at offset ${Math.floor(offsetBytes / MIB) * MIB};`) },
        );
      });
  });
});

const OPTIONS = { qcow2: DEFAULT_OPTIONS, zeroDetection: 'content', signal: NEVER, clock: systemClock, warn: () => {} } as const;

/** Changes one byte of a file. */
async function flip(path: string, offsetBytes: number): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offsetBytes);
  await file.write(Buffer.from([(byte[0] as number) ^ 0xff]), 0, 1, offsetBytes);
  await file.sync();
}
