/** -d and -R: metadata only, with the disk as external data file. */

import assert from 'node:assert/strict';
import { mkdir, rename, stat } from 'node:fs/promises';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { runCommand, runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('disklift stream with an external data file', () => {
  const temp = useTempDir();

  for (const [flag, clusterSize] of [
    ['-d', '64K'],
    ['-R', '64K'],
    ['-d', '1K'],
    ['-R', '2M'],
  ] as const) {
    it(`${flag} -c ${clusterSize}: has the disk's content from any working directory`, async () => {
      await mkdir(temp('images'));
      const disk = await createDisk(temp('disk.img'), 9 * MIB + 700, [
        { offsetBytes: 0, lengthBytes: 10, content: 'random' },
        { offsetBytes: 5 * MIB, lengthBytes: 3 * MIB, content: 'random' },
        { offsetBytes: 9 * MIB, lengthBytes: 700, content: 'random' },
      ]);
      // A relative path, as a user types it; the image must name it absolute.
      const line = `cd '${temp('.')}' && ${diskliftLine(['stream', 'disk.img', flag, '-c', clusterSize])} > images/meta.qcow2`;
      const { code, stderr } = await runShell(line);
      assert.deepEqual([code, stderr], [0, '']);
      await assertImageOf(temp('images/meta.qcow2'), disk);
      const info = JSON.parse((await runCommand('qemu-img', ['info', '--output=json', temp('images/meta.qcow2')])).stdout.toString());
      assert.equal(info['format-specific'].data['data-file'], disk);
      assert.equal(info['format-specific'].data['data-file-raw'], flag === '-R');
      assert.ok(
        (await stat(temp('images/meta.qcow2'))).size <
          12 * Number.parseInt(clusterSize, 10) * (clusterSize.endsWith('M') ? MIB : 1024) + 200_000,
      );
    });
  }

  for (const flag of ['-d', '-R'])
    it(`${flag}: its output can be read again, by an absolute name beside it or by the given name`, async () => {
      await mkdir(temp('a'));
      const disk = await createDisk(temp('a/disk.img'), 9 * MIB, [{ offsetBytes: 5 * MIB, lengthBytes: 3 * MIB, content: 'random' }]);
      for (const [directory, names] of [
        ['a', []],
        ['b', ['--data-file-name', './disk.img']],
      ] as const) {
        const made = await runShell(`${diskliftLine(['stream', flag, ...names, disk])} > '${temp('a/meta.qcow2')}'`);
        assert.deepEqual([made.code, made.stderr], [0, '']);
        // A relative name stays valid when both files move together.
        if (directory === 'b') await rename(temp('a'), temp('b'));
        const again = diskliftLine(['stream', '-f', 'qcow2', temp(`${directory}/meta.qcow2`)]);
        const { code, stderr } = await runShell(`cd / && ${again} > '${temp('again.qcow2')}'`);
        assert.deepEqual([code, stderr], [0, '']);
        await assertImageOf(temp('again.qcow2'), temp(`${directory}/disk.img`));
      }
      // QEMU resolves the name against its own working directory.
      assert.equal((await runCommand('qemu-img', ['check', 'meta.qcow2'], { cwd: temp('b') })).code, 0);
      assert.equal((await runCommand('qemu-img', ['compare', 'meta.qcow2', 'disk.img'], { cwd: temp('b') })).code, 0);
    });

  it('accepts a name of the data file only with a data file, and only if it is a path', async () => {
    const disk = await createDisk(temp('disk.img'), MIB);
    for (const [flags, message] of [
      [['--data-file-name', 'disk.img'], /--data-file-name needs -d or -R/],
      [['-d', '--data-file-name', 'nbd:disk.img'], /nbd:disk\.img, begins like a protocol of QEMU; put \.\/ in front of it/],
    ] as const) {
      const { code, stdout, stderr } = await disklift(['stream', disk, ...flags]);
      assert.deepEqual([code, stdout.length], [2, 0]);
      assert.match(stderr, message);
    }
  });

  it('-R maps every cluster without reading the disk', async () => {
    const disk = await createDisk(temp('disk.img'), 4 * MIB);
    const { stdout } = await disklift(['measure', disk, '-R', '--output', 'json']);
    assert.deepEqual(JSON.parse(stdout.toString()).clusters, { total: 64, data: 64, zero: 0, hole: 0 });
  });
});
