/** Bad input: one line on standard error, exit code 1 or 2, nothing on standard output. */

import assert from 'node:assert/strict';
import { chmod, link, mkdir, readFile, symlink, truncate } from 'node:fs/promises';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type CommandResult, runCommand, runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

function assertRefused(result: CommandResult, exitCode: number, message: RegExp): void {
  assert.equal(result.code, exitCode, result.stderr);
  assert.equal(result.stdout.length, 0, 'nothing on standard output');
  assert.match(result.stderr, message);
  assert.match(result.stderr, /^disklift: [^\n]+\n$/, 'one line');
}

describe('disklift stream refuses', () => {
  const temp = useTempDir();

  beforeEach(async () => {
    await createDisk(temp('disk.img'), MIB, [{ offsetBytes: 0, lengthBytes: 1000, content: 'random' }]);
  });

  const unusableArguments: [string, string[], RegExp][] = [
    ['a cluster size below the range', ['-c', '256'], /cluster size 256/],
    ['a cluster size above the range', ['-c', '4194304'], /cluster size 4194304/],
    ['a cluster size that is no power of two', ['-c', '65535'], /cluster size 65535/],
    ['a cluster size that is no number', ['-c', 'big'], /-c, --cluster-size .*'big'/],
    ['a refcount width that does not exist', ['-r', '12'], /refcount width 12/],
    ['a refcount width with version 2', ['-v', '2', '-r', '8'], /refcount width 8 needs version 3/],
    ['a version that does not exist', ['-v', '4'], /version 4/],
    ['an external data file with 512-byte clusters', ['-d', '-c', '512'], /data file needs a cluster size above 512/],
    ['an external data file with version 2', ['-R', '-v', '2'], /data file needs version 3/],
    ['an external data file of another format', ['-d', '-f', 'qcow2'], /needs a raw disk, not -f qcow2/],
    ['a format that does not exist', ['-f', 'floppy'], /'floppy'/],
    ['an unknown option', ['--fast'], /unknown option '--fast'/],
    ['an unknown way of progress', ['--progress', 'loud'], /'loud'/],
  ];
  for (const [what, flags, message] of unusableArguments) {
    it(what, async () => assertRefused(await disklift(['stream', temp('disk.img'), ...flags]), 2, message));
  }

  it('to run without a disk, or without a command', async () => {
    assertRefused(await disklift(['stream']), 2, /missing required argument 'image'/);
    assertRefused(await disklift(['upload']), 2, /unknown command 'upload'/);
  });

  it('a disk that is missing', async () => assertRefused(await disklift(['stream', temp('no.img')]), 1, /no\.img: no such disk/));

  it('a directory, a FIFO and a character device', async () => {
    await mkdir(temp('directory'));
    await runCommand('mkfifo', [temp('fifo')]);
    assertRefused(await disklift(['stream', temp('directory')]), 2, /directory: is a directory, not a disk image/);
    assertRefused(await disklift(['stream', temp('fifo')]), 2, /fifo: is a FIFO/);
    assertRefused(await disklift(['stream', '/dev/zero']), 2, /zero: is a character device/);
  });

  it('a disk that it may not read', async () => {
    await chmod(temp('disk.img'), 0);
    // Root may read anything while it has these capabilities.
    const asRoot = process.getuid?.() === 0 ? 'setpriv --bounding-set=-dac_override,-dac_read_search ' : '';
    const result = await runShell(`${asRoot}${diskliftLine(['stream', temp('disk.img')])}`);
    assertRefused(result, 1, /disk\.img: permission denied/);
  });

  it('a terminal', async () => {
    const result = await runCommand('script', ['-qec', diskliftLine(['stream', temp('disk.img')]), '/dev/null']);
    assert.equal(result.code, 2);
    assert.match(result.stdout.toString(), /^disklift: standard output is a terminal[^\n]*\n$/);
  });

  it('to write onto the disk that it reads, by any name of the disk', async () => {
    const before = await readFile(temp('disk.img'));
    await link(temp('disk.img'), temp('same.img'));
    const result = await runShell(`${diskliftLine(['stream', temp('same.img')])} >> '${temp('disk.img')}'`);
    assertRefused(result, 2, /same\.img: is also standard output/);
    assert.ok((await readFile(temp('disk.img'))).equals(before));
  });

  it('a disk whose L1 table QEMU would not open, and names the cluster size that works', async () => {
    await truncate(temp('disk.img'), 200 * GIB);
    assertRefused(await disklift(['stream', temp('disk.img'), '-c', '512']), 1, /L1 table .* smallest cluster size that works is 1024/);
    const works = await disklift(['measure', temp('disk.img'), '-c', '1024']);
    assert.equal(works.code, 0, works.stderr);
  });

  it('a data file name that does not fit', async () => {
    const long = temp('a'.repeat(200));
    await mkdir(long);
    await mkdir(`${long}/${'b'.repeat(200)}`);
    const path = `${long}/${'b'.repeat(200)}/${'c'.repeat(150)}`;
    await createDisk(path, MIB);
    assertRefused(await disklift(['stream', path, '-d', '-c', '1024']), 2, /does not fit .* larger cluster size/);
  });

  it('a disk that does not have the stated format', async () => {
    assertRefused(await disklift(['stream', temp('disk.img'), '-f', 'qcow2']), 1, /disk\.img: /);
  });

  it('a format for the disk of an NBD server', async () => {
    assertRefused(await disklift(['stream', 'nbd://127.0.0.1/', '-f', 'qcow2']), 2, /an NBD server .* so it is raw here, not -f qcow2/);
  });
});

describe('disklift stream takes', () => {
  const temp = useTempDir();

  it('an empty file: its image is valid and empty', async () => {
    const disk = await createDisk(temp('empty.img'), 0);
    const { code } = await runShell(`${diskliftLine(['stream', disk])} > '${temp('out.qcow2')}'`);
    assert.equal(code, 0);
    await assertImageOf(temp('out.qcow2'), disk);
  });

  it('a disk by a symbolic link', async () => {
    const disk = await createDisk(temp('disk.img'), MIB, [{ offsetBytes: 5, lengthBytes: 5, content: 'random' }]);
    await symlink(disk, temp('link.img'));
    const { code } = await runShell(`${diskliftLine(['stream', temp('link.img')])} > '${temp('out.qcow2')}'`);
    assert.equal(code, 0);
    await assertImageOf(temp('out.qcow2'), disk);
  });
});

describe('disklift stream fails', () => {
  const temp = useTempDir();

  it('without a message, with exit code 1, when the reader closes the pipe', async () => {
    const disk = await createDisk(temp('disk.img'), 32 * MIB, [{ offsetBytes: 0, lengthBytes: 32 * MIB, content: 'random' }]);
    for (const withoutKoffi of [false, true]) {
      const line = diskliftLine(['stream', disk], { withoutKoffi });
      const { stdout, stderr } = await runShell(`{ ${line}; echo "exit $?" >&2; } | head -c 1000000 > /dev/null`);
      assert.equal(stdout.length, 0);
      assert.equal(stderr, 'exit 1\n');
    }
  });

  it('when the destination is full', async () => {
    const disk = await createDisk(temp('disk.img'), MIB);
    const { code, stderr } = await runShell(`${diskliftLine(['stream', disk])} > /dev/full`);
    assert.equal(code, 1);
    assert.match(stderr, /^disklift: standard output: cannot write at byte 0: ENOSPC\n$/);
  });

  it('within a second, by the signal, when it is interrupted while the reader stands still', async () => {
    const disk = await createDisk(temp('disk.img'), 32 * MIB, [{ offsetBytes: 0, lengthBytes: 32 * MIB, content: 'random' }]);
    for (const withoutKoffi of [false, true]) {
      // sleep reads nothing; the pipe is full after 1 MiB.
      const line = `{ ${diskliftLine(['stream', disk], { withoutKoffi })} & pid=$!; sleep 2; kill -INT $pid; start=$(date +%s%N); wait $pid; echo "exit $? after $(( ($(date +%s%N) - start) / 1000000 )) ms" >&2; } | sleep 5`;
      const { stderr } = await runShell(`set -m; ${line}`);
      const match = /disklift: cancelled by SIGINT\nexit 130 after (\d+) ms/.exec(stderr);
      assert.ok(match, stderr);
      assert.ok(Number(match[1]) < 1000, stderr);
    }
  });

  describe('on a read error', () => {
    before(function () {
      return requireLoopDevices(this);
    });

    it('with the offset of the error, and never writes zeros instead', async () => {
      const path = await createDisk(temp('backing.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 16 * MIB, content: 'random' }]);
      await using loop = await attachLoopDevice(path);
      // The device keeps its size: what lies behind the file's new end can no longer be read.
      await truncate(path, 8 * MIB);
      for (const withoutKoffi of [false, true]) {
        const result = await disklift(['stream', loop.path], { withoutKoffi });
        assert.equal(result.code, 1);
        assert.equal(result.stdout.length, 0);
        assert.match(result.stderr, new RegExp(`disklift: ${loop.path}: cannot read at offset (\\d+): EIO\\n$`));
        const offset = Number(/offset (\d+)/.exec(result.stderr)?.[1]);
        assert.ok(offset >= 8 * MIB && offset < 10 * MIB, `offset ${offset}`);
      }
    });
  });
});
