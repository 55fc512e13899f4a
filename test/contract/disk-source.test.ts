import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { createLimiter } from '../../src/common/limiter.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { trackBlocks } from '../../src/sources/changed/block-hashes/track-blocks.ts';
import { openDisk } from '../../src/sources/open-disk.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { type NbdServer, openNbd, startNbdkit, startQemuNbd } from '../helpers/nbd-servers.ts';
import { openByQemu, openByUs } from '../helpers/open-image.ts';
import { nameHttp, nameS3, openNamed, serveDirectory } from '../helpers/remote-images.ts';
import { runCommand } from '../helpers/run-command.ts';
import { BUCKET } from '../helpers/s3-fake.ts';
import { createDisk, type DiskPart } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS } from '../helpers/versitygw.ts';
import { itIsADiskSource, type OpenedDisk } from './disk-source.ts';

describe('disk source', () => {
  const temp = useTempDir();

  async function openFile(libc: ReturnType<typeof loadLibc>, sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createDisk(temp('disk.img'), sizeBytes, parts);
    const source = await openDisk(path, { libc, readLimit: createLimiter(4), warn: () => {} });
    return { source, content: await readFile(path), [Symbol.asyncDispose]: () => source.dispose() };
  }

  async function openLoop(libc: ReturnType<typeof loadLibc>, sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createDisk(temp('disk.img'), sizeBytes, parts);
    const loop = await attachLoopDevice(path);
    const source = await openDisk(loop.path, { libc, readLimit: createLimiter(4), warn: () => {} });
    return {
      source,
      content: await readFile(path),
      async [Symbol.asyncDispose]() {
        await source.dispose();
        await loop[Symbol.asyncDispose]();
      },
    };
  }

  async function openNbdkit(flags: readonly string[], sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createDisk(temp('disk.img'), sizeBytes, parts);
    return openServed(path, await startNbdkit(temp('nbd.sock'), [...flags, 'file', path]));
  }

  /** @returns the path of the raw disk that it holds */
  async function createQcow2(sizeBytes: number, parts: readonly DiskPart[]): Promise<string> {
    const path = await createDisk(temp('disk.img'), sizeBytes, parts);
    const { code, stderr } = await runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', path, temp('disk.qcow2')]);
    assert.equal(code, 0, stderr);
    return path;
  }

  async function openQcow2(sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createQcow2(sizeBytes, parts);
    return openServed(path, await startQemuNbd(temp('nbd.sock'), temp('disk.qcow2'), 'qcow2'));
  }

  async function openQemuChild(sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createQcow2(sizeBytes, parts);
    const source = await openByQemu(temp('disk.qcow2'));
    return { source, content: await readFile(path), [Symbol.asyncDispose]: () => source.dispose() };
  }

  async function openPlain(libc: ReturnType<typeof loadLibc>, sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createQcow2(sizeBytes, parts);
    const { disk: source = assert.fail('left to QEMU') } = await openByUs(temp('disk.qcow2'), { libc });
    return { source, content: await readFile(path), [Symbol.asyncDispose]: () => source.dispose() };
  }

  /** @param flags of qemu-img convert */
  async function openByHttp(flags: readonly string[], sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createDisk(temp('disk.img'), sizeBytes, parts);
    const { code, stderr } = await runCommand('qemu-img', ['convert', ...flags, '-f', 'raw', '-O', 'qcow2', path, temp('disk.qcow2')]);
    assert.equal(code, 0, stderr);
    const server = await serveDirectory(temp('.'), temp('nginx'));
    const source = await openNamed(nameHttp(`${server.url}disk.qcow2`));
    return {
      source,
      content: await readFile(path),
      async [Symbol.asyncDispose]() {
        await source.dispose();
        await server[Symbol.asyncDispose]();
      },
    };
  }

  async function openByS3(sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const server = await startVersitygw(temp('objects'), BUCKET);
    const path = await createQcow2(sizeBytes, parts);
    await copyFile(temp('disk.qcow2'), server.objectPath(BUCKET, 'disk.qcow2'));
    const source = await openNamed(nameS3(`s3://${BUCKET}/disk.qcow2`, { endpoint: server.url, keys: VERSITYGW_KEYS }));
    return {
      source,
      content: await readFile(path),
      async [Symbol.asyncDispose]() {
        await source.dispose();
        await server[Symbol.asyncDispose]();
      },
    };
  }

  async function openServed(path: string, server: NbdServer): Promise<OpenedDisk> {
    const source = await openNbd(server);
    return {
      source,
      content: await readFile(path),
      async [Symbol.asyncDispose]() {
        await source.dispose();
        await server[Symbol.asyncDispose]();
      },
    };
  }

  describe('raw file', () => {
    itIsADiskSource({ open: (...disk) => openFile(loadLibc(), ...disk), sizeStepBytes: 1, findsHoles: true });
  });

  describe('raw file with block hashes', () => {
    itIsADiskSource({
      async open(...disk) {
        const opened = await openFile(loadLibc(), ...disk);
        return { ...opened, source: await trackBlocks(opened.source, { signal: NEVER }) };
      },
      sizeStepBytes: 1,
      findsHoles: true,
    });
  });

  describe('raw file without koffi', () => {
    itIsADiskSource({ open: (...disk) => openFile(undefined, ...disk), sizeStepBytes: 1, findsHoles: false });
  });

  for (const [name, libc] of [
    ['block device', loadLibc()],
    ['block device without koffi', undefined],
  ] as const)
    describe(name, () => {
      before(function () {
        return requireLoopDevices(this);
      });
      itIsADiskSource({ open: (...disk) => openLoop(libc, ...disk), sizeStepBytes: 512, findsHoles: false });
    });

  describe('NBD: nbdkit', () => {
    itIsADiskSource({ open: (...disk) => openNbdkit([], ...disk), sizeStepBytes: 1, findsHoles: true });
  });

  describe('NBD: nbdkit without structured replies', () => {
    itIsADiskSource({ open: (...disk) => openNbdkit(['--no-sr'], ...disk), sizeStepBytes: 1, findsHoles: false });
  });

  describe('NBD: qemu-nbd with a qcow2 file', () => {
    itIsADiskSource({ open: openQcow2, sizeStepBytes: 512, findsHoles: true });
  });

  for (const [name, libc] of [
    ['qcow2 image, by us', loadLibc()],
    ['qcow2 image, by us without koffi', undefined],
  ] as const)
    describe(name, () => {
      itIsADiskSource({ open: (...disk) => openPlain(libc, ...disk), sizeStepBytes: 512, findsHoles: true });
    });

  for (const [name, flags] of [
    ['as it is', []],
    ['compressed by zlib', ['-c']],
    ['compressed by zstd, clusters of 4 KiB', ['-c', '-o', 'compression_type=zstd,cluster_size=4096']],
  ] as const)
    describe(`qcow2 image on an HTTP server, ${name}`, () => {
      itIsADiskSource({ open: (...disk) => openByHttp(flags, ...disk), sizeStepBytes: 512, findsHoles: true });
    });

  describe('qcow2 image on an S3 server', () => {
    before(function () {
      requireVersitygw(this);
    });
    itIsADiskSource({ open: openByS3, sizeStepBytes: 512, findsHoles: true });
  });

  describe('qcow2 image, by a child of QEMU', () => {
    itIsADiskSource({ open: openQemuChild, sizeStepBytes: 512, findsHoles: true });
  });
});
