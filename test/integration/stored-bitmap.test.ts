/** Deltas by the dirty bitmap that the qcow2 image of a stopped VM stores, without a server. */

import assert from 'node:assert/strict';
import { copyFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { createImage } from '../helpers/create-image.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { runCommand, runShell } from '../helpers/run-command.ts';
import { startStorageDaemon } from '../helpers/storage-daemon.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

async function succeeds(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout.toString();
}

describe('the bitmap that a qcow2 image stores', () => {
  const temp = useTempDir();

  const deltaFlags = ['-f', 'qcow2', '--changed', 'qemu:dirty-bitmap:nightly', '--base', 'full.qcow2'];
  const io = (image: string, ...commands: string[]) => succeeds('qemu-io', [...commands.flatMap((text) => ['-c', text]), temp(image)]);
  const addBitmap = (image: string, ...flags: string[]) => succeeds('qemu-img', ['bitmap', ...flags, temp(image), 'nightly']);
  const stream = (image: string, out: string, flags: readonly string[]) =>
    runShell(`${diskliftLine(['stream', temp(image), ...flags])} > '${temp(out)}'`);

  async function refused(image: string, message: RegExp): Promise<void> {
    const { code, stderr } = await stream(image, 'refused.qcow2', deltaFlags);
    assert.deepEqual([code, (await stat(temp('refused.qcow2'))).size], [1, 0], stderr);
    assert.match(stderr, message);
  }

  for (const [clusterSize, granularity, size] of [
    ['64k', '64k', '8M'],
    ['4k', '512', '8M'],
    ['512', '4k', '5000192'],
    ['2M', '1M', '40M'],
  ] as const)
    it(`shows what has changed, with clusters of ${clusterSize}, a granularity of ${granularity} and a disk of ${size}`, async () => {
      await createImage(temp('disk.qcow2'), { format: 'qcow2', size, options: [`cluster_size=${clusterSize}`] });
      await io('disk.qcow2', 'write -q -P 1 0 4M');
      await addBitmap('disk.qcow2', '--add', '-g', granularity);
      assert.equal((await stream('disk.qcow2', 'full.qcow2', ['-f', 'qcow2'])).code, 0);
      await io(
        'disk.qcow2',
        'write -q -P 2 1M 4k',
        'write -q -z 2M 64k',
        'discard -q 3M 128k',
        'write -q -P 3 4800k 50k',
        'write -q -P 0 512k 64k',
      );
      const { code, stderr } = await stream('disk.qcow2', 'delta.qcow2', deltaFlags);
      assert.deepEqual([code, stderr], [0, '']);
      await succeeds('qemu-img', ['compare', '-q', temp('disk.qcow2'), temp('delta.qcow2')]);
      const measured = await disklift(['measure', temp('disk.qcow2'), '--output', 'json', ...deltaFlags]);
      assert.equal(JSON.parse(`${measured.stdout}`).imageSizeBytes, (await stat(temp('delta.qcow2'))).size);
      await addBitmap('disk.qcow2', '--clear');
      assert.equal((await stream('disk.qcow2', 'nothing.qcow2', deltaFlags)).code, 0);
      assert.ok((await stat(temp('nothing.qcow2'))).size <= 6 * 2 * MIB, 'metadata only');
    });

  it("is not taken from the backing file, as QEMU's servers do, and counts where the overlay has its own", async () => {
    await createImage(temp('disk.qcow2'), { format: 'qcow2', size: '8M' });
    await addBitmap('disk.qcow2', '--add');
    await io('disk.qcow2', 'write -q -P 1 0 1M');
    await createImage(temp('overlay.qcow2'), { format: 'qcow2', backing: { name: 'disk.qcow2', format: 'qcow2' } });
    await io('overlay.qcow2', 'write -q -P 2 4M 1M');
    await refused('overlay.qcow2', /the image itself has no valid bitmap nightly, and no bitmap; the bitmap of a backing file misses/);
    await addBitmap('overlay.qcow2', '--add');
    assert.equal((await stream('overlay.qcow2', 'full.qcow2', ['-f', 'qcow2'])).code, 0);
    await io('overlay.qcow2', 'write -q -P 3 512k 1M');
    assert.equal((await stream('overlay.qcow2', 'delta.qcow2', deltaFlags)).code, 0);
    await succeeds('qemu-img', ['compare', '-q', temp('overlay.qcow2'), temp('delta.qcow2')]);
  });

  it('is refused while a program has the image open, after that program was killed, and when it records nothing', async () => {
    await createImage(temp('disk'), { format: 'qcow2', size: '8M' });
    await addBitmap('disk', '--add');
    await addBitmap('disk', '--disable');
    await refused('disk', /its bitmap nightly does not record writes/);
    await addBitmap('disk', '--enable');
    const daemon = await startStorageDaemon({ path: temp('disk'), format: 'qcow2' }, path.dirname(temp('disk')));
    await daemon.guest(['write -q -P 1 0 1M']);
    // A copy has no lock, which would refuse the disk earlier.
    await copyFile(temp('disk'), temp('copy'));
    await refused('copy', /its bitmap nightly is in use: a VM runs, or did not end in order/);
    await daemon[Symbol.asyncDispose]();
    await refused('disk', /its bitmap nightly is in use/);
  });

  it('is refused after a program without knowledge of bitmaps has written, and when the name is another one', async () => {
    await createImage(temp('disk.qcow2'), { format: 'qcow2', size: '8M' });
    await addBitmap('disk.qcow2', '--add');
    const { code, stderr } = await stream('disk.qcow2', 'out', [
      ...deltaFlags.slice(0, 3),
      'qemu:dirty-bitmap:other',
      ...deltaFlags.slice(4),
    ]);
    assert.equal(code, 1);
    assert.match(stderr, /has no valid bitmap other, and only nightly;/);
    // Such a program clears the autoclear features, at byte 88 of the header.
    await succeeds('bash', [
      '-c',
      `printf '\\0\\0\\0\\0\\0\\0\\0\\0' | dd of='${temp('disk.qcow2')}' bs=1 seek=88 conv=notrunc status=none`,
    ]);
    await refused('disk.qcow2', /has no valid bitmap nightly, and no bitmap;/);
  });

  it('ends the stream when the image changes meanwhile', async () => {
    await createImage(temp('disk.qcow2'), { format: 'qcow2', size: '64M' });
    await addBitmap('disk.qcow2', '--add');
    await io('disk.qcow2', 'write -q -P 1 0 32M');
    const write = `qemu-io -c 'write -q -P 2 40M 64k' '${temp('disk.qcow2')}' >&2`;
    const flags = [...deltaFlags, '--in-use', 'allow'];
    const line = `${diskliftLine(['stream', temp('disk.qcow2'), ...flags])} | { head -c 100000; ${write}; cat; } > '${temp('delta.qcow2')}'`;
    const { code, stderr } = await runShell(line);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /changed|is being written/);
    assert.notEqual((await runCommand('qemu-img', ['check', temp('delta.qcow2')])).code, 0, 'the image is cut short');
  });
});
