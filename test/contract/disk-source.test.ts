import { readFile } from 'node:fs/promises';
import { createSemaphore } from '../../src/common/semaphore.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { openDisk } from '../../src/sources/open-disk.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { createDisk, type DiskPart } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { itIsADiskSource, type OpenedDisk } from './disk-source.ts';

describe('disk source', () => {
  const temp = useTempDir();

  async function openFile(libc: ReturnType<typeof loadLibc>, sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createDisk(temp('disk.img'), sizeBytes, parts);
    const source = await openDisk(path, { libc, readLimit: createSemaphore(4), warn: () => {} });
    return { source, content: await readFile(path), [Symbol.asyncDispose]: () => source.dispose() };
  }

  async function openLoop(libc: ReturnType<typeof loadLibc>, sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk> {
    const path = await createDisk(temp('disk.img'), sizeBytes, parts);
    const loop = await attachLoopDevice(path);
    const source = await openDisk(loop.path, { libc, readLimit: createSemaphore(4), warn: () => {} });
    return {
      source,
      content: await readFile(path),
      async [Symbol.asyncDispose]() {
        await source.dispose();
        await loop[Symbol.asyncDispose]();
      },
    };
  }

  describe('raw file', () => {
    itIsADiskSource({ open: (...disk) => openFile(loadLibc(), ...disk), sizeStepBytes: 1, findsHoles: true });
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
});
