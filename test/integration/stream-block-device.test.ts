import assert from 'node:assert/strict';
import { open, stat } from 'node:fs/promises';
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
    it(`reads the whole device${withoutKoffi ? ', with a warning about its cache, without koffi' : ''}`, async () => {
      const backing = await createBacking();
      await using loop = await attachLoopDevice(backing);
      const line = diskliftLine(['stream', loop.path], { withoutKoffi });
      const { code, stderr } = await runShell(`${line} | cat > '${temp('out.qcow2')}'`);
      assert.equal(code, 0, stderr);
      assert.match(stderr, withoutKoffi ? /^disklift: warning: .*koffi is not available[^\n]*\n$/ : /^$/);
      await assertImageOf(temp('out.qcow2'), backing);
    });
  }

  it('reads no cached pages that are older than the device', async () => {
    const backing = await createBacking();
    await using loop = await attachLoopDevice(backing);
    // Another process of this node has the device open and has read it, so its pages stay cached.
    await using reader = await open(loop.path, 'r');
    await reader.read(Buffer.alloc(24 * MIB), 0, 24 * MIB, 0);
    // A writer on another node changes the storage of the device.
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

  it("names the node's setting that lets other users than root read the device", async () => {
    await using loop = await attachLoopDevice(await createBacking());
    // A second device file of the same device, which no user may open.
    const line = `cp -a '${loop.path}' '${temp('vmdisk')}' && chmod 0 '${temp('vmdisk')}'`;
    assert.equal((await runShell(line)).code, 0);
    const asNobody = 'setpriv --bounding-set=-dac_override,-dac_read_search ';
    const { code, stderr } = await runShell(`${asNobody}${diskliftLine(['stream', temp('vmdisk')])}`);
    assert.equal(code, 1);
    assert.match(stderr, /^disklift: \S+vmdisk: permission denied; [^\n]+ device_ownership_from_security_context[^\n]+\n$/);
  });

  describe('that changes while it is streamed', () => {
    const DISK_SIZE_BYTES = 64 * MIB;
    const DATA_BYTES = 32 * MIB;

    /** Writes a byte to the storage of the device when the reader has begun, and then lets the reader continue. */
    async function streamWhile(args: readonly string[], offsetBytes: number) {
      const backing = await createDisk(temp('backing.img'), DISK_SIZE_BYTES, [
        { offsetBytes: 0, lengthBytes: DATA_BYTES, content: 'random' },
      ]);
      await using loop = await attachLoopDevice(backing);
      const write = `printf x | dd of='${backing}' bs=1 seek=${offsetBytes} conv=notrunc,fsync status=none`;
      const line = `${diskliftLine(['stream', ...args, loop.path])} | { head -c 100000; ${write}; cat; } > '${temp('out.qcow2')}'`;
      const { code, stderr } = await runShell(`set -o pipefail; ${line}`);
      return { code, stderr, imageSizeBytes: (await stat(temp('out.qcow2'))).size };
    }

    for (const [what, offsetBytes] of [
      ['data', DATA_BYTES - 1],
      ['zeros', DISK_SIZE_BYTES - 1],
    ] as const)
      it(`gives a truncated image when ${what} changed`, async () => {
        const { code, stderr, imageSizeBytes } = await streamWhile([], offsetBytes);
        assert.equal(code, 1, stderr);
        assert.match(
          stderr,
          new RegExp(`^disklift: /dev/loop\\d+: changed while it was read, in the MiB at offset ${offsetBytes + 1 - MIB};[^\n]+\n$`),
        );
        assert.ok(imageSizeBytes < DATA_BYTES, `${imageSizeBytes} bytes of an image with ${DATA_BYTES} of data`);
      });

    it('gives an image of mixed content with verification off', async () => {
      const { code, stderr, imageSizeBytes } = await streamWhile(['--verify', 'never'], DATA_BYTES - 1);
      assert.equal(code, 0, stderr);
      assert.ok(imageSizeBytes > DATA_BYTES);
    });
  });

  it('cannot be verified when it is read only once', async () => {
    await using loop = await attachLoopDevice(await createBacking());
    const refused = await disklift(['stream', '--verify', 'always', '--zero-detection', 'extents', loop.path]);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /^disklift: verifying [^\n]+\n$/);
    const { code, stderr } = await disklift(['stream', '--zero-detection', 'extents', loop.path]);
    assert.equal(code, 0);
    assert.match(stderr, /^disklift: warning: \/dev\/loop\d+: --zero-detection extents [^\n]+ unnoticed$/m);
  });
});
