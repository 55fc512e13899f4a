import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('disklift stream of a block device', () => {
  const temp = useTempDir();

  before(function () {
    return requireLoopDevices(this);
  });

  const createBacking = () =>
    createDisk(temp('backing.img'), 24 * MIB + 512, [
      { offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' },
      { offsetBytes: 20 * MIB, lengthBytes: 4 * MIB + 512, content: 'random' },
    ]);

  for (const withoutKoffi of [false, true]) {
    it(`knows its size and reads it all${withoutKoffi ? ', with a warning about its cache, without koffi' : ''}`, async () => {
      const backing = await createBacking();
      await using loop = await attachLoopDevice(backing);
      const line = diskliftLine(['stream', loop.path], { withoutKoffi });
      const { code, stderr } = await runShell(`${line} | cat > '${temp('out.qcow2')}'`);
      assert.equal(code, 0, stderr);
      assert.match(stderr, withoutKoffi ? /^disklift: warning: .*koffi is not available[^\n]*\n$/ : /^$/);
      await assertImageOf(temp('out.qcow2'), backing);
    });
  }

  it('does not take pages from the cache that are older than the device', async () => {
    const backing = await createBacking();
    await using loop = await attachLoopDevice(backing);
    // Somebody on this node has the device open and has read it: its pages are cached and stay so.
    await using reader = await open(loop.path, 'r');
    await reader.read(Buffer.alloc(24 * MIB), 0, 24 * MIB, 0);
    // A writer elsewhere changes what lies beneath.
    const changed = Buffer.alloc(65_536, 0x5a);
    await using file = await open(backing, 'r+');
    await file.write(changed, 0, changed.length, MIB);
    await file.sync();
    const stale = Buffer.alloc(changed.length);
    await reader.read(stale, 0, stale.length, MIB);
    assert.ok(!stale.equals(changed), 'the cache is indeed older than the device');

    const { code, stdout } = await disklift(['stream', loop.path]);
    assert.equal(code, 0);
    assert.ok(stdout.includes(changed), 'the image has what the device has now');
  });
});
