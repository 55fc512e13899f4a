import assert from 'node:assert/strict';
import { appendFile, chmod, link, open, truncate, utimes } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../../../src/common/clock.ts';
import { prepareImage } from '../../../src/image/prepare-image.ts';
import { sealSource } from '../../../src/image/seal.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from '../../helpers/image-in-process.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('seal', () => {
  const temp = useTempDir();

  const changes: [string, (path: string) => Promise<unknown>, RegExp][] = [
    [
      'written to',
      async (path) => {
        await using file = await open(path, 'r+');
        await file.write(Buffer.from([1]), 0, 1, 4096);
      },
      /mtime/,
    ],
    ['longer', (path) => appendFile(path, 'x'), /size/],
    ['shorter', (path) => truncate(path, 1000), /size/],
    [
      'written to and its modification time set back',
      async (path) => {
        await using file = await open(path, 'r+');
        const { atime, mtime } = await file.stat();
        await file.write(Buffer.from([1]), 0, 1, 4096);
        await utimes(path, atime, mtime);
      },
      /ctime/,
    ],
  ];
  for (const [what, change, facts] of changes) {
    it(`is broken when the disk was ${what}, even at once after its identity was taken`, async () => {
      const path = await createDisk(temp('disk.img'), 8192);
      const source = await openSource(path);
      const before = await source.identity();
      await sealSource(source, before, NEVER);
      await change(path);
      await assert.rejects(sealSource(source, before, NEVER), { code: 'SourceChanged', message: facts });
      await source.dispose();
    });
  }

  const writeAndSetBack = async (path: string, at: number) => {
    await using file = await open(path, 'r+');
    const { atime, mtime } = await file.stat();
    await file.write(Buffer.from([1]), 0, 1, at);
    await utimes(path, atime, mtime);
  };

  async function sealedWhile(verify: 'always' | 'auto', change: (path: string) => Promise<unknown>): Promise<void> {
    const path = await createDisk(temp('disk.img'), 1 << 20, [{ offsetBytes: 0, lengthBytes: 1 << 19, content: 'random' }]);
    await delay(50);
    await using prepared = await prepareImage({
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content',
      verify,
      openSource: () => openSource(path),
      signal: NEVER,
      clock: systemClock,
      warn: (message) => assert.fail(message),
    });
    await change(path);
    await prepared.seal();
  }

  it('stays valid when only attributes have changed and the content was compared', async () => {
    await sealedWhile('always', (path) => link(path, temp('link')));
    await sealedWhile('always', (path) => chmod(path, 0o640));
  });

  it('is broken by a write that hides its time, to data and to a hole, when the content was compared', async () => {
    const inMiB = /changed while it was read, in the MiB at offset 0/;
    for (const at of [4096, 900_000])
      await assert.rejects(
        sealedWhile('always', (path) => writeAndSetBack(path, at)),
        inMiB,
      );
  });

  it('gives advice when only attributes have changed and nothing was compared', async () => {
    await assert.rejects(
      sealedWhile('auto', (path) => chmod(path, 0o640)),
      /changed while it was read \(ctime\); its attributes did, or a write that hides its time; .*--verify always/,
    );
  });
});
