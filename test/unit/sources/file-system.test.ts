import assert from 'node:assert/strict';
import { open, readFile } from 'node:fs/promises';
import { createFileSystemLookup, fileSystemOf } from '../../../src/sources/file-system.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('the file system of an open file', () => {
  const temp = useTempDir();

  it('is the one that findmnt names, even after the file was unlinked', async () => {
    for (const place of ['/proc/self/status', '/dev/null', '/sys/kernel/notes', temp('file')]) {
      await using file = await open(place, place === temp('file') ? 'w' : 'r');
      const { stdout } = await runCommand('findmnt', ['-n', '-o', 'FSTYPE', '-T', place]);
      if (place === temp('file')) await runCommand('rm', [place]);
      assert.equal((await fileSystemOf(file)).type, stdout.toString().trim(), place);
    }
  });

  it('gets the most careful traits when it is unknown', async () => {
    const { type, ...traits } = await fileSystemOf({ fd: 1_000_000 });
    assert.equal(type, 'type not known');
    assert.deepEqual(traits, { isLocal: false, timesShowWrites: false, locksAreShared: false, cacheGoesStale: true });
  });

  it('is found by its magic number where the mount is not visible', async () => {
    await using file = await open('/dev/shm');
    const { type, isLocal } = await fileSystemOf(file, async () => 'nothing of use');
    assert.deepEqual([type, isLocal], ['tmpfs', true]);
    await using other = await open('/proc');
    assert.deepEqual((await fileSystemOf(other, async () => assert.fail('no /proc'))).type, 'type 0x9fa0');
  });

  it('is looked up once for all files of a mount, and again for another mount', async () => {
    const readings: string[] = [];
    const lookup = createFileSystemLookup((path) => {
      if (path.endsWith('mountinfo')) readings.push(path);
      return readFile(path, 'utf8');
    });
    await using file = await open(temp('file'), 'w');
    await using other = await open(temp('other'), 'w');
    await using proc = await open('/proc/self/status');
    const types = (await Promise.all([file, other, file].map(lookup))).map(({ type }) => type);
    assert.deepEqual(types, Array(3).fill((await fileSystemOf(file)).type));
    assert.equal(readings.length, 1);
    assert.equal((await lookup(proc)).type, 'proc');
    assert.equal(readings.length, 2);
  });
});
