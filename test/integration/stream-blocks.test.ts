/** `disklift stream --changed blocks:FILE` end to end, on files, images and block devices; QEMU judges each chain. */

import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readFileSync, statSync, symlinkSync, truncateSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '../../src/common/clock.ts';
import { createLimiter } from '../../src/common/limiter.ts';
import { prepareImage } from '../../src/image/prepare-image.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { openBlocksFile } from '../../src/sources/changed/block-hashes/local-file.ts';
import { trackBlocks } from '../../src/sources/changed/block-hashes/track-blocks.ts';
import { openDisk } from '../../src/sources/open-disk.ts';
import { createImage } from '../helpers/create-image.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { DEFAULT_OPTIONS, NEVER } from '../helpers/image-in-process.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { runCommand, runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { startStorageDaemon } from '../helpers/storage-daemon.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

async function succeeds(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout.toString();
}

describe('disklift stream --changed blocks:FILE', () => {
  const temp = useTempDir();

  const stream = (disk: string, name: string, flags: readonly string[]) =>
    runShell(`${diskliftLine(['stream', disk, ...flags])} > '${temp(name)}'`);

  /** Streams point 0 in full and the others as deltas, and compares each with a copy of the disk at that time. */
  async function assertChain(disk: string, format: string, points: readonly (readonly string[])[], flags: readonly string[] = []) {
    const io = async (commands: readonly string[]) =>
      succeeds('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), disk]);
    for (const [index, commands] of points.entries()) {
      await io(commands);
      const delta = ['--changed', `blocks:${temp(`${index - 1}.blocks`)}`, '--base', `${index - 1}.qcow2`];
      const line = ['-f', format, ...flags, '--write-blocks', temp(`${index}.blocks`), ...(index === 0 ? [] : delta)];
      const streamed = await stream(disk, `${index}.qcow2`, line);
      assert.equal(streamed.code, 0, streamed.stderr);
      await succeeds('qemu-img', ['convert', '-f', format, '-O', 'raw', disk, temp(`${index}.truth`)]);
    }
    for (const index of points.keys()) {
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', temp(`${index}.truth`), temp(`${index}.qcow2`)]);
      await succeeds('qemu-img', ['check', '-q', temp(`${index}.qcow2`)]);
    }
  }

  const POINTS = [
    ['write -q -P 1 0 7M', 'write -q -P 2 20M 3M', 'write -q -P 3 63M 1M'],
    ['write -q -P 4 1234k 4k', 'write -q -P 0 2M 1M', 'write -q -P 5 40M 512'],
    ['discard -q 20M 2M', 'write -q -P 1 1234k 4k'],
    ['write -q -z 40M 1M', 'write -q -P 6 21M 512', 'write -q -P 7 63M 512'],
  ];

  for (const clusterSize of ['512', '64K', '2M'])
    it(`makes a chain of a full image and three deltas of a raw file, with clusters of ${clusterSize}`, async () => {
      await createImage(temp('disk.img'), { format: 'raw', size: '64M' });
      await assertChain(temp('disk.img'), 'raw', POINTS, ['-c', clusterSize]);
      assert.ok(statSync(temp('2.qcow2')).size < 0.6 * statSync(temp('0.qcow2')).size);
    });

  it('makes the chain of a qcow2 image', async () => {
    await createImage(temp('disk.qcow2'), { format: 'qcow2', size: '64M' });
    await assertChain(temp('disk.qcow2'), 'qcow2', POINTS);
  });

  it('sends one MiB of a sparse disk of 1 TiB of which one byte changed, as exactly as measure says', async () => {
    const disk = await createDisk(temp('disk.img'), 1024 * 1024 * MIB, [
      { offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' },
      { offsetBytes: 1024 * 1024 * MIB - MIB, lengthBytes: MIB, content: 'random' },
    ]);
    assert.equal((await stream(disk, '0.qcow2', ['--write-blocks', temp('0.blocks')])).code, 0);
    copyFileSync(temp('0.blocks'), temp('keep.blocks'));
    await using file = await open(disk, 'r+');
    await file.write(Buffer.from('x'), 0, 1, 3 * MIB + 17);
    const delta = ['--changed', `blocks:${temp('0.blocks')}`, '--base', '0.qcow2'];
    const streamed = await stream(disk, '1.qcow2', [...delta, '--write-blocks', temp('0.blocks')]);
    assert.deepEqual([streamed.code, streamed.stderr], [0, ''], 'the file of hashes may be replaced by the new one');
    assert.ok(!readFileSync(temp('0.blocks')).equals(readFileSync(temp('keep.blocks'))));
    const measured = await disklift([
      'measure',
      disk,
      '--output',
      'json',
      '--changed',
      `blocks:${temp('keep.blocks')}`,
      '--base',
      '0.qcow2',
    ]);
    const { imageSizeBytes, clusters } = JSON.parse(measured.stdout.toString());
    assert.deepEqual(
      [imageSizeBytes, clusters],
      [statSync(temp('1.qcow2')).size, { total: 16_777_216, data: 16, zero: 0, hole: 0, unchanged: 16_777_200 }],
    );
    await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', disk, temp('1.qcow2')]);
  });

  it('takes the size of the base from the file of hashes when the disk has grown, and refuses another size', async () => {
    const disk = await createDisk(temp('disk.img'), 3 * MIB + 512, [{ offsetBytes: 0, lengthBytes: 3 * MIB + 512, content: 'random' }]);
    assert.equal((await stream(disk, '0.qcow2', ['--write-blocks', temp('0.blocks')])).code, 0);
    truncateSync(disk, 9 * MIB);
    await using file = await open(disk, 'r+');
    await file.write(Buffer.from('x'), 0, 1, 8 * MIB);
    const delta = ['--changed', `blocks:${temp('0.blocks')}`, '--base', '0.qcow2'];
    for (const flags of [[], ['--base-size', `${3 * MIB + 512}`]]) {
      assert.equal((await stream(disk, '1.qcow2', [...delta, ...flags])).code, 0);
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', disk, temp('1.qcow2')]);
    }
    const contradicted = await stream(disk, 'no.qcow2', [...delta, '--base-size', '4M']);
    assert.deepEqual([contradicted.code, statSync(temp('no.qcow2')).size], [1, 0]);
    assert.match(
      contradicted.stderr,
      /^disklift: [^\n]+ base has 4194304 bytes, and the map of changes counts from a disk of 3146240[^\n]+\n$/,
    );
    truncateSync(disk, 3 * MIB);
    const shrunk = await stream(disk, 'no.qcow2', delta);
    assert.deepEqual([shrunk.code, statSync(temp('no.qcow2')).size], [2, 0]);
    assert.match(shrunk.stderr, /has 3145728 bytes, fewer than the 3146240 of its base/);
  });

  it("goes on from a delta by QEMU's dirty bitmap, which has left hashes of the whole disk", async () => {
    await createImage(temp('disk.qcow2'), { format: 'qcow2', size: '8M' });
    await using daemon = await startStorageDaemon({ path: temp('disk.qcow2'), format: 'qcow2' }, path.dirname(temp('disk.qcow2')));
    await daemon.guest(['write -q -P 1 0 4M']);
    await daemon.addBitmap('tracker', 65_536);
    await daemon.exported(undefined, async (uri) => assert.equal((await stream(uri, '0.qcow2', [])).code, 0));
    await daemon.guest(['write -q -P 2 1M 4k', 'write -q -z 3M 64k']);
    await daemon.freezeBitmap('tracker', 'frozen', 65_536);
    await daemon.exported('frozen', async (uri) => {
      const flags = ['--changed', 'qemu:dirty-bitmap:frozen', '--base', '0.qcow2', '--write-blocks', temp('1.blocks')];
      const { code, stderr } = await stream(uri, '1.qcow2', flags);
      assert.deepEqual([code, stderr], [0, '']);
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', uri, temp('1.qcow2')]);
    });
    await daemon.guest(['write -q -P 3 2M 4k', 'discard -q 0 512k']);
    await daemon.exported(undefined, async (uri) => {
      const { code, stderr } = await stream(uri, '2.qcow2', ['--changed', `blocks:${temp('1.blocks')}`, '--base', '1.qcow2']);
      assert.deepEqual([code, stderr], [0, '']);
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', uri, temp('2.qcow2')]);
      assert.ok(statSync(temp('2.qcow2')).size < 3 * MIB);
    });
  });

  it('writes no hashes for a disk that changes while it is streamed', async () => {
    const disk = await createDisk(temp('disk.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 8 * MIB, content: 'random' }]);
    const line = diskliftLine(['stream', disk, '--write-blocks', temp('0.blocks')]);
    const write = `printf x | dd of='${disk}' bs=1 seek=${5 * MIB} conv=notrunc status=none`;
    const { code, stderr } = await runShell(`set -o pipefail; ${line} | { head -c 100000; ${write}; cat; } > '${temp('0.qcow2')}'`);
    assert.equal(code, 1);
    assert.match(stderr, /changed while it was read/);
    assert.ok(!existsSync(temp('0.blocks')));
  });

  it('refuses what makes no delta or no hashes, in one line and before it writes anything', async () => {
    const disk = await createDisk(temp('disk.img'), MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    assert.equal((await stream(disk, '0.qcow2', ['--write-blocks', temp('0.blocks')])).code, 0);
    const blocks = readFileSync(temp('0.blocks'));
    await succeeds('truncate', ['-s', '-1', temp('0.blocks')]);
    await succeeds('mkfifo', [temp('fifo')]);
    symlinkSync(disk, temp('link'));
    const changed = (file: string) => ['--changed', `blocks:${file}`, '--base', 'f.qcow2'];
    const write = (file: string, ...flags: string[]) => ['--write-blocks', temp(file), ...flags];
    const refused: [flags: string[], code: number, message: RegExp][] = [
      [changed(temp('0.blocks')), 1, /0\.blocks: has 127 bytes, and the hashes of a disk of 1048576 bytes need 128; make a full image/],
      [changed(disk), 1, /disk\.img: is no file of block hashes of disklift; make a full image/],
      [changed(temp('none')), 1, /none: no such file of block hashes/],
      [changed(temp('fifo')), 2, /fifo: is not a regular file/],
      [changed(path.dirname(disk)), 2, /is not a regular file/],
      [['--changed', 'blocks:', '--base', 'f'], 2, /qemu:dirty-bitmap:NAME or blocks:FILE is expected/],
      [['--changed', `blocks:${temp('0.blocks')}`], 2, /--changed needs --base/],
      [[...changed(temp('0.blocks')), '--verbatim'], 2, /--verbatim sends a file as it is/],
      [write('disk.img'), 2, /exists and holds no block hashes, so it is not replaced/],
      [write('link'), 2, /exists and holds no block hashes/],
      [write('fifo'), 2, /exists and holds no block hashes/],
      [write('none/0.blocks'), 2, /cannot be written: ENOENT; name a file in a directory that exists/],
      [write('1.blocks', '--verify', 'never'), 2, /--verify never is not allowed/],
      [write('1.blocks', '--zero-detection', 'extents'), 2, /--zero-detection extents is not allowed/],
      [write('1.blocks', '--verbatim'), 2, /no delta can stand on an image of --verbatim/],
      [write('1.blocks', '-d'), 2, /no delta can stand on an image of --verbatim, -d or -R/],
    ];
    for (const [flags, expected, message] of refused) {
      const { code, stdout, stderr } = await disklift(['stream', disk, ...flags]);
      assert.deepEqual([code, stdout.length], [expected, 0], `${flags.join(' ')}: ${stderr}`);
      assert.match(stderr, message);
      assert.match(stderr, /^disklift: [^\n]+\n$/, 'one line');
    }
    assert.equal(blocks.length, 128);
    assert.ok(!existsSync(temp('1.blocks')));
  });

  describe('on a block device', () => {
    before(async function () {
      await requireLoopDevices(this);
    });

    it('makes a chain', async () => {
      await createImage(temp('backing.img'), { format: 'raw', size: '64M' });
      await using loop = await attachLoopDevice(temp('backing.img'));
      await assertChain(loop.path, 'raw', POINTS);
    });

    for (const [what, offsetBytes] of [
      ['an unchanged block', 5 * MIB],
      ['a changed block', MIB + 9],
      ['zeros', 12 * MIB],
    ] as const)
      it(`fails when ${what} is written to after it was hashed`, async () => {
        const backing = await createDisk(temp('backing.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 8 * MIB, content: 'random' }]);
        await using loop = await attachLoopDevice(backing);
        assert.equal((await stream(loop.path, '0.qcow2', ['--write-blocks', temp('0.blocks')])).code, 0);
        const write = (at: number, pattern: number) =>
          succeeds('qemu-io', ['-f', 'raw', '-c', `write -q -P ${pattern} ${at - (at % 512)} 512`, loop.path]);
        await write(MIB, 7);
        const source = await openDisk(loop.path, { libc: loadLibc(), readLimit: createLimiter(4), warn: assert.fail });
        const hooked = {
          ...source,
          // The scan has ended, and the second reading has not begun.
          async openAgain() {
            await write(offsetBytes, 8);
            return source;
          },
        };
        const preparing = prepareImage({
          qcow2: { ...DEFAULT_OPTIONS, backingFile: { name: '0.qcow2', format: 'qcow2' } },
          zeroDetection: 'content',
          openSource: () => trackBlocks(hooked, { openBase: () => openBlocksFile(temp('0.blocks')), signal: NEVER }),
          signal: NEVER,
          clock: systemClock,
          warn: assert.fail,
        });
        const block = offsetBytes - (offsetBytes % MIB);
        await assert.rejects(preparing, { code: 'SourceChanged', message: new RegExp(`in the MiB at offset ${block};`) });
      });
  });
});
