/**
 * Backups of KubeVirt in pull mode: its own virt-exportserver serves disks of QEMU with real dirty bitmaps. The part of
 * virt-launcher, which needs a node, is played. QEMU judges the images.
 */

import assert from 'node:assert/strict';
import { createWriteStream, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { systemClock } from '../../src/common/clock.ts';
import { type ImageOptions, prepareImage } from '../../src/image/prepare-image.ts';
import type { TrackedSource } from '../../src/sources/changed/contract.ts';
import { itIsADiskSource } from '../contract/disk-source.ts';
import { createImage } from '../helpers/create-image.ts';
import { DEFAULT_OPTIONS, NEVER } from '../helpers/image-in-process.ts';
import { type ExportServer, requireExportServer, startExportServer } from '../helpers/kubevirt-backup/export-server.ts';
import { openVolume } from '../helpers/kubevirt-backup/open-volume.ts';
import { startQemuNbd } from '../helpers/nbd-servers.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { type StorageDaemon, startStorageDaemon } from '../helpers/storage-daemon.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GRANULARITY = 64 * KIB;
const VOLUME = 'rootdisk';
/** STEPS=1000 makes so many backups. */
const STEPS = Number(process.env.STEPS ?? 6);

async function succeeds(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout.toString();
}

describe("KubeVirt's backup in pull mode", () => {
  const temp = useTempDir();
  let program: string;

  before(function () {
    program = requireExportServer(this);
  });

  function serve(uri: string, checkpoint?: string): Promise<ExportServer> {
    return startExportServer({
      directory: path.dirname(temp('x')),
      program,
      volumes: [VOLUME],
      type: checkpoint === undefined ? 'Full' : 'Incremental',
      checkpoint,
      exportOf: (volume) => (volume === VOLUME ? uri : undefined),
    });
  }

  async function write(openSource: () => Promise<TrackedSource>, name: string, options: Partial<ImageOptions> = {}) {
    const prepared = await prepareImage({
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content',
      ...options,
      openSource,
      signal: NEVER,
      clock: systemClock,
      warn: (message) => assert.fail(message),
    });
    try {
      const copies = async function* () {
        for await (const chunk of prepared.image.stream({ signal: NEVER })) yield Buffer.from(chunk);
      };
      await pipeline(copies, createWriteStream(temp(name)));
      await prepared.seal();
      return prepared.layout;
    } finally {
      await prepared[Symbol.asyncDispose]();
    }
  }

  /** A disk that a guest has open, with a bitmap that shows all changes from now on. */
  async function startDisk(commands: readonly string[]): Promise<StorageDaemon> {
    await createImage(temp('disk'), { format: 'qcow2', size: '8M' });
    const daemon = await startStorageDaemon({ path: temp('disk'), format: 'qcow2' }, path.dirname(temp('disk')));
    await daemon.guest(commands);
    await daemon.addBitmap('tracker', GRANULARITY);
    return daemon;
  }

  const delta = (base: string): Partial<ImageOptions> => ({ qcow2: { ...DEFAULT_OPTIONS, backingFile: { name: base, format: 'qcow2' } } });

  describe('as a source', () => {
    itIsADiskSource({
      async open(sizeBytes, parts) {
        const raw = await createDisk(temp('disk.img'), sizeBytes, parts);
        const nbd = await startQemuNbd(temp('nbd.sock'), raw, 'raw');
        const server = await serve(nbd.uri);
        const source = await openVolume({ server, volume: VOLUME, isIncremental: false });
        return {
          source,
          content: await readFile(raw),
          async [Symbol.asyncDispose]() {
            await source.dispose();
            await server[Symbol.asyncDispose]();
            await nbd[Symbol.asyncDispose]();
          },
        };
      },
      sizeStepBytes: 512,
      findsHoles: true,
    });
  });

  it('becomes a chain of one full image and three deltas, each of which is the disk at its time', async () => {
    await using daemon = await startDisk(['write -q -P 1 0 4M']);
    mkdirSync(temp('truth'));
    const images: string[] = [];
    const steps: readonly (readonly string[])[] = [
      [],
      ['write -q -P 2 1M 4k', 'write -q -z 2M 64k', 'discard -q 3M 128k', 'write -q -P 0 512k 64k'],
      ['write -q -P 3 7M 512k', 'write -q -P 4 2M 8k'],
      ['discard -q 0 1M'],
    ];
    for (const [index, commands] of steps.entries()) {
      if (commands.length > 0) await daemon.guest(commands);
      const base = images.at(-1);
      const checkpoint = base === undefined ? undefined : `backup-${index}`;
      if (checkpoint !== undefined) await daemon.freezeBitmap('tracker', checkpoint, GRANULARITY);
      await daemon.exported(checkpoint, async (uri) => {
        await using server = await serve(uri, checkpoint);
        const open = () => openVolume({ server, volume: VOLUME, isIncremental: checkpoint !== undefined });
        const layout = await write(open, `${index}.qcow2`, base === undefined ? {} : delta(base));
        if (index === 3) assert.deepEqual(layout.map.clusters.data, 0, 'a discard is no data');
        await succeeds('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, temp(`truth/${index}`)]);
      });
      images.push(`${index}.qcow2`);
      for (const [at, image] of images.entries())
        await succeeds('qemu-img', ['compare', '-q', '-F', 'raw', temp(image), temp(`truth/${at}`)]);
    }
  });

  it(`is the disk at each point in time, in ${STEPS} backups of random changes ${SEED_TEXT}`, async function () {
    this.timeout(STEPS * 20_000);
    const random = createRandom(SEED);
    const below = (limit: number) => Math.floor(random() * limit);
    const operation = () => {
      const length = 512 * (1 + below(256));
      const kinds = [`write -q -P ${1 + below(255)}`, 'write -q -P 0', 'write -q -z', 'write -q -z -u', 'discard -q'];
      return `${kinds[below(kinds.length)]} ${512 * below((8 * MIB - length) / 512)} ${length}`;
    };
    const operations = () => Array.from({ length: 1 + below(6) }, operation);
    await using daemon = await startDisk(operations());
    await daemon.exported(undefined, async (uri) => {
      await using server = await serve(uri);
      await write(() => openVolume({ server, volume: VOLUME, isIncremental: false }), '0.qcow2');
    });
    for (let step = 1; step <= STEPS; step += 1) {
      await daemon.guest(operations());
      await daemon.freezeBitmap('tracker', 'now', GRANULARITY);
      await daemon.exported('now', async (uri) => {
        await using server = await serve(uri, 'now');
        server.launcher.hasZeros = random() < 0.5;
        const qcow2 = {
          ...DEFAULT_OPTIONS,
          clusterSizeBytes: 4 * KIB * 2 ** below(10),
          backingFile: delta(`${step - 1}.qcow2`).qcow2?.backingFile,
        };
        const zeroDetection = random() < 0.7 ? 'content' : 'extents';
        await write(() => openVolume({ server, volume: VOLUME, isIncremental: true }), `${step}.qcow2`, { qcow2, zeroDetection });
        await succeeds('qemu-img', ['compare', '-q', '-f', 'qcow2', '-F', 'raw', temp(`${step}.qcow2`), uri]);
      });
      await daemon.removeBitmap('now');
    }
  });

  it('gives a full image of an incremental backup, too', async () => {
    await using daemon = await startDisk(['write -q -P 1 0 1M', 'write -q -P 2 5M 1M']);
    await daemon.freezeBitmap('tracker', 'now', GRANULARITY);
    await daemon.exported('now', async (uri) => {
      await using server = await serve(uri, 'now');
      await write(() => openVolume({ server, volume: VOLUME, isIncremental: true }), 'full.qcow2');
      await succeeds('qemu-img', ['compare', '-q', '-f', 'qcow2', '-F', 'raw', temp('full.qcow2'), uri]);
    });
  });

  it('is refused as incremental where the export server does not have the name of the checkpoint, and shows allocation', async () => {
    await using daemon = await startDisk(['write -q -P 1 0 1M']);
    await daemon.exported(undefined, async (uri) => {
      await using server = await serve(uri, '');
      const source = await openVolume({ server, volume: VOLUME, isIncremental: true });
      const read = async () => {
        for await (const extent of source.changed?.extents(NEVER) ?? []) assert.ok(extent.length > 0);
      };
      await assert.rejects(read(), { code: 'ChangesRefused', message: /a map of allocation \("data" at offset 0\)/ });
      await source.dispose();
    });
  });

  it('is refused with a wrong token, and with a certificate of another authority', async () => {
    await using daemon = await startDisk([]);
    await daemon.exported(undefined, async (uri) => {
      await using server = await serve(uri);
      await using other = await serve(uri);
      const open = (facts: object) => openVolume({ server: { ...server, ...facts }, volume: VOLUME, isIncremental: false });
      await assert.rejects(open({ token: 'old-token' }), {
        code: 'SourcePermissionDenied',
        message: /rootdisk: .*answered 401: the token/,
      });
      await assert.rejects(open({ ca: other.ca }), { code: 'SourceReadError', retryable: false, message: /TLS/ });
    });
  });

  it('fails when the checkpoint is gone, and when QEMU is gone between map and data', async () => {
    await using daemon = await startDisk(['write -q -P 1 0 1M']);
    await daemon.freezeBitmap('tracker', 'now', GRANULARITY);
    await daemon.exported('now', async (uri) => {
      await using server = await serve(uri, 'another');
      await assert.rejects(openVolume({ server, volume: VOLUME, isIncremental: true }), {
        code: 'SourceReadError',
        message: /map at offset 0: answered 500: .*checkpoint/,
      });
    });
    await daemon.exported('now', async (uri) => {
      await using server = await serve(uri, 'now');
      const source = await openVolume({ server, volume: VOLUME, isIncremental: true });
      await server.launcher[Symbol.asyncDispose]();
      await assert.rejects(source.read(Buffer.alloc(MIB), 0, NEVER), { code: 'SourceReadError', message: /503: .*virtual machine/ });
      await source.dispose();
    });
  });

  it('repeats a read that breaks off in the middle, and fails when every try does', async () => {
    await using daemon = await startDisk(['write -q -P 1 0 8M']);
    await daemon.exported(undefined, async (uri) => {
      await using server = await serve(uri);
      const source = await openVolume({ server, volume: VOLUME, isIncremental: false });
      let count = 0;
      server.launcher.onMessage = () => {
        count += 1;
        if (count === 3) throw new Error('pread failed');
      };
      const buffer = Buffer.alloc(2 * MIB);
      await source.read(buffer, MIB, NEVER);
      assert.ok(buffer.every((byte) => byte === 1));
      server.launcher.onMessage = () => {
        count += 1;
        if (count % 4 === 0) throw new Error('pread failed');
      };
      await assert.rejects(source.read(buffer, MIB, NEVER), {
        code: 'SourceReadError',
        message: /cannot read 2097152 bytes at offset 1048576/,
      });
      await source.dispose();
    });
  });

  it('asks again for the part of the disk that a map lacks, and refuses what stays away', async () => {
    await using daemon = await startDisk(['write -q -P 1 0 8M']);
    await daemon.exported(undefined, async (uri) => {
      await using server = await serve(uri);
      const extentsOf = async () => {
        const source = await openVolume({ server, volume: VOLUME, isIncremental: false });
        try {
          const found: number[][] = [];
          for await (const { offset, length } of source.extents(NEVER)) found.push([offset, length]);
          return [source.sizeBytes, found];
        } finally {
          await source.dispose();
        }
      };
      const whole = await extentsOf();
      assert.equal(whole[0], 8 * MIB);
      // KubeVirt 1.9.0 ends its map early where one metadata context is cut before the other.
      server.launcher.alterMap = (extents) =>
        extents.map((extent) => ({ ...extent, length: Math.min(extent.length, 3 * MIB) })).slice(0, 1);
      assert.deepEqual(await extentsOf(), whole);
      server.launcher.alterMap = ([first, ...others]) =>
        first === undefined ? [] : [{ ...first, offset: first.offset + 4096, length: first.length - 4096 }, ...others];
      await assert.rejects(extentsOf(), {
        code: 'SourceReadError',
        message: /cannot be used at offset 0: it lacks the bytes from there on/,
      });
    });
  });
});
