/**
 * A full image and deltas on it, once by QEMU's dirty bitmap and once by block hashes. Between them a guest writes,
 * discards and writes zeros, and the disk may grow. QEMU compares both chains with the disk at each point in time.
 * STEPS=1000 makes so many deltas of each kind.
 */

import assert from 'node:assert/strict';
import { createWriteStream, mkdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { systemClock } from '../../src/common/clock.ts';
import { writeDurably } from '../../src/common/durable-file.ts';
import { createLimiter } from '../../src/common/limiter.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { composeImage, type DiskRequest } from '../../src/wiring/stream.ts';
import { createImage } from '../helpers/create-image.ts';
import { DEFAULT_OPTIONS, NEVER } from '../helpers/image-in-process.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT, seedOf } from '../helpers/seed.ts';
import { type StorageDaemon, startStorageDaemon } from '../helpers/storage-daemon.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SECTOR = 512;

const STEPS = Number(process.env.STEPS ?? 24);
const LIMIT_MS = STEPS * 20_000;

/** An image of the chain; its base is the image before it. */
interface Point {
  name: string;
  format: 'qcow2' | 'raw';
  sizeBytes: number;
}

class Chain {
  readonly random: () => number;
  readonly directory: string;
  readonly clusterSizeBytes: number;
  readonly granularityBytes: number;
  readonly sourceClusterBytes: number;
  sizeBytes: number;
  readonly points: Point[] = [];
  /** The images that block hashes made. */
  readonly hashedPoints: Point[] = [];

  constructor(directory: string, seed: number) {
    this.directory = directory;
    this.random = createRandom(seed);
    this.clusterSizeBytes = this.powerOfTwo(4 * KIB, 2 * MIB);
    this.granularityBytes = this.powerOfTwo(SECTOR, MIB);
    this.sourceClusterBytes = this.powerOfTwo(4 * KIB, 2 * MIB);
    this.sizeBytes = this.sectors(SECTOR, 12 * MIB);
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  powerOfTwo(min: number, max: number): number {
    return min * 2 ** this.below(Math.log2(max / min) + 1);
  }

  /** Whole sectors; now and then a whole number of clusters. */
  sectors(min: number, max: number): number {
    const unit = this.random() < 0.3 ? Math.min(this.clusterSizeBytes, max) : SECTOR;
    return Math.max(min, unit * Math.max(1, this.below(Math.floor(max / unit) + 1)));
  }

  /** A command of qemu-io: few bytes or many, anywhere, and often at an end of the disk. */
  operation(): string {
    const longest = Math.min(this.sizeBytes, this.random() < 0.7 ? 64 * KIB : 3 * MIB);
    const length = this.sectors(SECTOR, longest);
    const start = this.random() < 0.15 ? this.sizeBytes - length : SECTOR * this.below((this.sizeBytes - length) / SECTOR + 1);
    const kinds = [
      `write -q -P ${1 + this.below(255)}`,
      `write -q -P ${1 + this.below(255)}`,
      'write -q -P 0',
      'write -q -z',
      'write -q -z -u',
      'discard -q',
    ];
    return `${kinds[this.below(kinds.length)]} ${start} ${length}`;
  }

  operations(most: number): string[] {
    return Array.from({ length: this.below(most + 1) }, () => this.operation());
  }

  get disk(): string {
    return path.join(this.directory, 'disk.qcow2');
  }

  get last(): Point {
    return this.points.at(-1) as Point;
  }

  toString(): string {
    const { clusterSizeBytes, granularityBytes, sourceClusterBytes, sizeBytes, points, hashedPoints } = this;
    return JSON.stringify({ clusterSizeBytes, granularityBytes, sourceClusterBytes, sizeBytes, points, hashedPoints });
  }
}

async function stream(
  request: Pick<DiskRequest, 'path' | 'format' | 'bitmap' | 'blocksFile' | 'baseSizeBytes' | 'qcow2' | 'zeroDetection'>,
  file: string,
  writeBlocks?: string,
): Promise<void> {
  const context = {
    libc: loadLibc(),
    readLimit: createLimiter(4),
    clock: systemClock,
    signal: NEVER,
    warn: (text: string) => assert.fail(text),
  };
  // With extents alone the disk is read once, and nothing can be compared.
  const verify = request.zeroDetection === 'content' ? 'auto' : 'never';
  await using prepared = await composeImage({ ...request, keepBlocks: writeBlocks !== undefined, verify }, context);
  const copies = async function* () {
    for await (const chunk of prepared.image.stream({ signal: NEVER })) yield Buffer.from(chunk);
  };
  await pipeline(copies, createWriteStream(file));
  await prepared.seal();
  assert.equal(statSync(file).size, prepared.image.sizeBytes);
  if (writeBlocks !== undefined) await writeDurably(writeBlocks, { text: prepared.blocks().chunks(), mode: 0o600 });
}

async function succeeds(command: string, args: readonly string[], chain: Chain): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args, { cwd: chain.directory });
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr} with ${chain}`);
  return stdout.toString();
}

/** Asserts that an image, with all that it stands on, is the disk. */
async function assertIsDisk(uri: string, chain: Chain, { name, format, sizeBytes }: Point = chain.last): Promise<void> {
  await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', format, uri, name], chain);
  const info = JSON.parse(await succeeds('qemu-img', ['info', '--output=json', name], chain)) as { 'virtual-size': number };
  assert.equal(info['virtual-size'], sizeBytes, `${chain}`);
  if (format === 'qcow2') await succeeds('qemu-img', ['check', '-q', name], chain);
}

describe('a chain of deltas', () => {
  const temp = useTempDir();

  async function backUpFully(daemon: StorageDaemon, chain: Chain): Promise<void> {
    const isRaw = chain.random() < 0.25;
    chain.points.push({ name: isRaw ? 'full.img' : 'full.qcow2', format: isRaw ? 'raw' : 'qcow2', sizeBytes: chain.sizeBytes });
    await daemon.exported(undefined, async (uri) => {
      const file = path.join(chain.directory, chain.last.name);
      if (isRaw) await succeeds('qemu-img', ['convert', '-O', 'raw', uri, file], chain);
      else
        await stream(
          { path: uri, qcow2: { ...DEFAULT_OPTIONS, clusterSizeBytes: chain.powerOfTwo(4 * KIB, 2 * MIB) }, zeroDetection: 'content' },
          file,
        );
      await assertIsDisk(uri, chain);
      await backUpHashed(uri, chain);
    });
  }

  /** The first image is full. The disk is read from the server, or as a file whose times show writes. */
  async function backUpHashed(uri: string, chain: Chain): Promise<void> {
    const inDirectory = (name: string) => path.join(chain.directory, name);
    const count = chain.hashedPoints.length;
    const base = chain.hashedPoints.at(-1);
    const point: Point = { name: `hashed-${count}.qcow2`, format: 'qcow2', sizeBytes: chain.sizeBytes };
    const disk = chain.random() < 0.5 ? uri : inDirectory('copy.img');
    if (disk !== uri) await succeeds('qemu-img', ['convert', '-O', 'raw', uri, disk], chain);
    const blocks = inDirectory('disk.blocks');
    const onBase = base === undefined ? {} : { blocksFile: blocks };
    const backingFile = base === undefined ? undefined : { name: base.name, format: base.format };
    const zeroDetection = base === undefined || chain.random() < 0.7 ? 'content' : 'extents';
    const qcow2 = { ...DEFAULT_OPTIONS, clusterSizeBytes: chain.powerOfTwo(SECTOR, 2 * MIB), backingFile };
    await stream({ path: disk, ...onBase, qcow2, zeroDetection }, inDirectory(point.name), blocks);
    chain.hashedPoints.push(point);
    await assertIsDisk(uri, chain, point);
  }

  /** The options of a delta by a bitmap, at random. */
  function nextDelta(chain: Chain): { point: Point; options: Parameters<typeof stream>[0] } {
    const { name, format, sizeBytes } = chain.last;
    const point: Point = { name: `delta-${chain.points.length}.qcow2`, format: 'qcow2', sizeBytes: chain.sizeBytes };
    const zeroDetection = chain.random() < 0.7 ? 'content' : 'extents';
    // Without it the new part of a disk that grew is zeros here, as behind the end of the base.
    const baseSizeBytes = chain.random() < 0.5 ? sizeBytes : undefined;
    const qcow2 = { ...DEFAULT_OPTIONS, clusterSizeBytes: chain.clusterSizeBytes, backingFile: { name, format } };
    return { point, options: { path: chain.disk, baseSizeBytes, qcow2, zeroDetection } };
  }

  /** The machine has stopped, and its image has the bitmap. */
  async function backUpStopped(chain: Chain): Promise<void> {
    const { point, options } = nextDelta(chain);
    await stream({ ...options, format: 'qcow2', bitmap: 'tracker' }, path.join(chain.directory, point.name));
    chain.points.push(point);
    await succeeds('qemu-img', ['compare', '-q', chain.disk, point.name], chain);
    await succeeds('qemu-img', ['bitmap', '--clear', chain.disk, 'tracker'], chain);
  }

  async function backUpChanges(daemon: StorageDaemon, chain: Chain): Promise<void> {
    await daemon.freezeBitmap('tracker', 'frozen', chain.granularityBytes);
    await daemon.exported('frozen', async (uri) => {
      const { point, options } = nextDelta(chain);
      await stream({ ...options, path: uri, bitmap: 'frozen' }, path.join(chain.directory, point.name));
      chain.points.push(point);
      await assertIsDisk(uri, chain);
      await backUpHashed(uri, chain);
    });
    await daemon.removeBitmap('frozen');
  }

  async function grow(daemon: StorageDaemon, chain: Chain): Promise<void> {
    chain.sizeBytes += chain.sectors(SECTOR, 4 * MIB);
    await daemon.resize(chain.sizeBytes);
  }

  it(`is the disk at each point in time, in ${STEPS} deltas ${SEED_TEXT}`, async function () {
    this.timeout(LIMIT_MS);
    let stepCount = 0;
    for (let part = 0; stepCount < STEPS; part += 1) {
      const chain = new Chain(temp(`chain-${part}`), seedOf(part));
      mkdirSync(chain.directory);
      const disk = { path: chain.disk, format: 'qcow2' };
      await createImage(disk.path, { format: 'qcow2', options: [`cluster_size=${chain.sourceClusterBytes}`], size: `${chain.sizeBytes}` });
      let daemon = await startStorageDaemon(disk, chain.directory);
      try {
        await daemon.guest(chain.operations(12));
        await daemon.addBitmap('tracker', chain.granularityBytes);
        await backUpFully(daemon, chain);
        for (let left = 3 + chain.below(3); left > 0 && stepCount < STEPS; left -= 1) {
          await daemon.guest(chain.operations(10));
          if (chain.random() < 0.2) {
            await daemon.quit();
            daemon = await startStorageDaemon(disk, chain.directory);
          }
          if (chain.random() < 0.3) await grow(daemon, chain);
          if (chain.random() < 0.5) await daemon.guest(chain.operations(4));
          if (chain.random() < 0.3) {
            await daemon.quit();
            await backUpStopped(chain);
            daemon = await startStorageDaemon(disk, chain.directory);
          } else await backUpChanges(daemon, chain);
          stepCount += 1;
        }
      } catch (error) {
        throw new Error(`chain ${part} of seed ${SEED}: ${chain}`, { cause: error });
      } finally {
        await daemon[Symbol.asyncDispose]();
      }
      rmSync(chain.directory, { recursive: true });
    }
  });
});
