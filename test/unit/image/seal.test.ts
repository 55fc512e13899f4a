import assert from 'node:assert/strict';
import { appendFile, open, truncate, utimes } from 'node:fs/promises';
import { sealSource } from '../../../src/image/seal.ts';
import { NEVER, openSource } from '../../helpers/image-in-process.ts';
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
});
