import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { fileSystemOf } from '../../../../src/sources/file-systems/file-system-of.ts';
import { runCommand } from '../../../helpers/run-command.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

describe('the file system of an open file', () => {
  const temp = useTempDir();

  it('is the one that findmnt names, also when the file has no name any more', async () => {
    for (const place of ['/proc/self/status', '/dev/null', '/sys/kernel/notes', temp('file')]) {
      await using file = await open(place, place === temp('file') ? 'w' : 'r');
      const { stdout } = await runCommand('findmnt', ['-n', '-o', 'FSTYPE', '-T', place]);
      if (place === temp('file')) await runCommand('rm', [place]);
      assert.equal((await fileSystemOf(file)).type, stdout.toString().trim(), place);
    }
  });

  it('is treated with care when nothing is known of it', async () => {
    const { type, ...traits } = await fileSystemOf({ fd: 1_000_000 });
    assert.equal(type, 'type not known');
    assert.deepEqual(traits, { isLocal: false, timesShowWrites: false, locksAreShared: false, cacheGoesStale: true });
  });

  it('is known by its number where the mount is not visible', async () => {
    await using file = await open('/dev/shm');
    const { type, isLocal } = await fileSystemOf(file, async () => 'nothing of use');
    assert.deepEqual([type, isLocal], ['tmpfs', true]);
    await using other = await open('/proc');
    assert.deepEqual((await fileSystemOf(other, async () => assert.fail('no /proc'))).type, 'type 0x9fa0');
  });
});
