import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readlinkSync, renameSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { createVolumeDirectory } from '../../../src/sources/open-beneath.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('the directory of a volume', () => {
  const temp = useTempDir();

  const descriptorsOf = (path: string) =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(path);
      } catch {
        return false;
      }
    });
  const inodeOf = async (directory: FileHandle) => (await directory.stat()).ino;

  it('is one descriptor for all concurrent users, and closed afterwards', async () => {
    mkdirSync(temp('volume'));
    const volume = createVolumeDirectory(temp('volume'));
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const tasks = Array.from({ length: 20 }, () => volume.use(async (directory) => held.then(() => directory.fd)));
    const failing = assert.rejects(
      volume.use(async () => assert.fail('of the task')),
      /of the task/,
    );
    await failing;
    assert.equal(descriptorsOf(temp('volume')).length, 1);
    release();
    assert.equal(new Set(await Promise.all(tasks)).size, 1);
    assert.deepEqual(descriptorsOf(temp('volume')), []);
  });

  it('is the directory that has the path now, even if none existed before', async () => {
    const volume = createVolumeDirectory(temp('volume'));
    await assert.rejects(volume.use(inodeOf), { code: 'ENOENT' });
    mkdirSync(temp('volume'));
    const first = await volume.use(inodeOf);
    renameSync(temp('volume'), temp('elsewhere'));
    mkdirSync(temp('volume'));
    assert.notEqual(await volume.use(inodeOf), first);
  });
});
