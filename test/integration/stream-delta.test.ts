/** `disklift stream --changed` end to end: QEMU keeps the bitmap, serves it and judges the chain. */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { createImage } from '../helpers/create-image.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { startNbdkit, startQemuNbd } from '../helpers/nbd-servers.ts';
import { runCommand, runShell } from '../helpers/run-command.ts';
import { startStorageDaemon } from '../helpers/storage-daemon.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GRANULARITY = 64 * KIB;

async function succeeds(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout.toString();
}

describe('disklift stream --changed', () => {
  const temp = useTempDir();

  const stream = (uri: string, name: string, flags: readonly string[] = []) =>
    runShell(`${diskliftLine(['stream', uri, ...flags])} > '${temp(name)}'`);

  const deltaFlags = (base: string) => ['--changed', 'qemu:dirty-bitmap:frozen', '--base', base];

  /** A disk that a guest has open, with a bitmap that shows all changes from now on. */
  async function startDisk(format: 'qcow2' | 'raw', commands: readonly string[]) {
    await createImage(temp('disk'), { format, size: '8M' });
    const daemon = await startStorageDaemon({ path: temp('disk'), format }, path.dirname(temp('disk')));
    await daemon.guest(commands);
    await daemon.addBitmap('tracker', GRANULARITY);
    return daemon;
  }

  it('writes what has changed, as exactly as measure says, and QEMU reads the chain from another directory', async () => {
    await using daemon = await startDisk('qcow2', ['write -q -P 1 0 4M']);
    await daemon.exported(undefined, async (uri) => assert.equal((await stream(uri, 'full.qcow2')).code, 0));
    await daemon.guest(['write -q -P 2 1M 4k', 'write -q -z 2M 64k', 'discard -q 3M 128k', 'write -q -P 0 512k 64k']);
    await daemon.freezeBitmap('tracker', 'frozen', GRANULARITY);
    await daemon.exported('frozen', async (uri) => {
      const streamed = await stream(uri, 'delta.qcow2', deltaFlags('full.qcow2'));
      assert.deepEqual([streamed.code, streamed.stderr], [0, '']);
      const measured = await disklift(['measure', uri, '--output', 'json', ...deltaFlags('full.qcow2')]);
      assert.equal(measured.code, 0, measured.stderr);
      assert.deepEqual(JSON.parse(measured.stdout.toString()), {
        virtualSizeBytes: 8 * MIB,
        imageSizeBytes: (await stat(temp('delta.qcow2'))).size,
        clusters: { total: 128, data: 1, zero: 1, hole: 3, unchanged: 123 },
        extents: 1,
      });
      assert.match((await disklift(['measure', uri, ...deltaFlags('f')])).stdout.toString(), /\(1 data .* 3 in holes, 123 unchanged\)/);
      mkdirSync(temp('elsewhere'));
      await succeeds('mv', [temp('full.qcow2'), temp('delta.qcow2'), temp('elsewhere')]);
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', uri, temp('elsewhere/delta.qcow2')]);
    });
    await succeeds('qemu-img', ['check', '-q', temp('elsewhere/delta.qcow2')]);
    const flat = await stream(temp('elsewhere/delta.qcow2'), 'flat.qcow2', ['-f', 'qcow2']);
    assert.deepEqual([flat.code, flat.stderr], [0, ''], 'disklift reads the chain, too');
    await succeeds('qemu-img', ['compare', '-q', temp('flat.qcow2'), temp('elsewhere/delta.qcow2')]);
  });

  it('sends bytes that a volume had before it grew, which QEMU calls unchanged, when it has the size of the base', async () => {
    await using daemon = await startDisk('raw', ['write -q -P 1 0 1M']);
    await daemon.exported(undefined, async (uri) => succeeds('qemu-img', ['convert', '-O', 'raw', uri, temp('full.img')]));
    await daemon.resize(12 * MIB);
    // A logical volume shows there what its extents held before.
    const file = await open(temp('disk'), 'r+');
    await file.write(Buffer.alloc(100, 0xaa), 0, 100, 10 * MIB);
    await file.close();
    await daemon.freezeBitmap('tracker', 'frozen', GRANULARITY);
    await daemon.exported('frozen', async (uri) => {
      const flags = [...deltaFlags('full.img'), '--base-format', 'raw'];
      assert.equal((await stream(uri, 'trusting.qcow2', flags)).code, 0);
      assert.equal((await stream(uri, 'delta.qcow2', [...flags, '--base-size', '8M'])).code, 0);
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', uri, temp('delta.qcow2')]);
      const compared = await runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', uri, temp('trusting.qcow2')]);
      assert.match(`${compared.stdout}`, /Content mismatch at offset 10485760/, 'the size of the base is needed');
      const shrunk = await stream(uri, 'shrunk.qcow2', [...flags, '--base-size', '16M']);
      assert.deepEqual([shrunk.code, (await stat(temp('shrunk.qcow2'))).size], [2, 0]);
      assert.match(shrunk.stderr, /has 12582912 bytes, fewer than the 16777216 of its base; .* make a full image\n$/);
    });
  });

  it('fails without an image when the guest writes meanwhile and the bitmap shows it', async () => {
    await using daemon = await startDisk('qcow2', ['write -q -P 1 0 4M']);
    await daemon.guest(['write -q -P 2 0 2M']);
    // An export for writing shows a bitmap that still changes.
    await daemon.command('block-export-add', {
      type: 'nbd',
      id: 'live',
      'node-name': 'disk',
      name: 'live',
      writable: true,
      bitmaps: ['tracker'],
    });
    const uri = `nbd+unix:///live?socket=${temp('disk.sock')}`;
    const flags = ['--changed', 'qemu:dirty-bitmap:tracker', '--base', 'full.qcow2'];
    // The image has arrived but for its end, which waits for the seal.
    const line = `${diskliftLine(['stream', uri, ...flags])} | { head -c 100000; qemu-io -f raw -c 'write -q -P 3 7M 64k' '${uri}' >&2; cat; } > '${temp('delta.qcow2')}'`;
    const { code, stderr } = await runShell(line);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /changed while it was read \(changes\)/);
    const image = await runCommand('qemu-img', ['check', temp('delta.qcow2')]);
    assert.notEqual(image.code, 0, 'the image is cut short');
  });

  it('refuses a chain of images that the server shows, because the bitmap may be of the backing file', async () => {
    await createImage(temp('base.qcow2'), { format: 'qcow2', size: '8M' });
    await succeeds('qemu-img', ['bitmap', '--add', temp('base.qcow2'), 'frozen']);
    await succeeds('qemu-io', ['-c', 'write -q -P 1 0 1M', temp('base.qcow2')]);
    await createImage(temp('overlay.qcow2'), { format: 'qcow2', backing: { name: 'base.qcow2', format: 'qcow2' } });
    await succeeds('qemu-io', ['-c', 'write -q -P 2 4M 1M', temp('overlay.qcow2')]);
    await using server = await startQemuNbd(temp('nbd.sock'), temp('overlay.qcow2'), 'qcow2', ['-B', 'frozen', '-A']);
    const refused = await stream(server.uri, 'delta.qcow2', deltaFlags('full.qcow2'));
    assert.deepEqual([refused.code, (await stat(temp('delta.qcow2'))).size], [1, 0]);
    assert.match(refused.stderr, /exports a chain of images \(at offset 0 the data lies in a backing file\)/);
  });

  it('names the bitmaps that the server reports when it lacks the wanted one, and refuses servers without bitmaps', async () => {
    await using daemon = await startDisk('qcow2', []);
    await daemon.freezeBitmap('tracker', 'other', GRANULARITY);
    await daemon.exported('other', async (uri) => {
      const { code, stderr } = await stream(uri, 'delta.qcow2', deltaFlags('full.qcow2'));
      assert.equal(code, 1);
      assert.match(stderr, /does not report the dirty bitmap frozen with this export, and only other;/);
    });
    await using server = await startNbdkit(temp('nbdkit.sock'), ['memory', '1M']);
    const { code, stderr } = await stream(server.uri, 'delta.qcow2', deltaFlags('full.qcow2'));
    assert.equal(code, 1);
    assert.match(stderr, /does not report the dirty bitmap frozen with this export, and no bitmap;/);
  });

  it('refuses flags that make no delta, in one line', async () => {
    const uri = 'nbd://127.0.0.1:1/disk';
    const changed = ['--changed', 'qemu:dirty-bitmap:b'];
    const delta = [...changed, '--base', 'full.qcow2'];
    const refused: [string[], RegExp][] = [
      [[uri, ...changed], /--changed needs --base/],
      [[uri, '--base', 'full.qcow2'], /--base and --base-size need --changed/],
      [[uri, '--base-size', '1G'], /--base and --base-size need --changed/],
      [[uri, '--changed', 'b', '--base', 'f'], /--changed b: qemu:dirty-bitmap:NAME or blocks:FILE is expected/],
      [[uri, '--changed', 'qemu:dirty-bitmap:', '--base', 'f'], /qemu:dirty-bitmap:NAME or blocks:FILE is expected/],
      [[uri, '--changed', `qemu:dirty-bitmap:${'b'.repeat(1024)}`, '--base', 'f'], /longer than 1023 bytes/],
      [['disk.img', ...delta], /--changed with a dirty bitmap needs a disk on an NBD server/],
      [[uri, ...delta, '--verbatim'], /--verbatim sends a file as it is/],
      [[uri, ...delta, '-v', '2'], /a base needs version 3/],
      [[uri, ...changed, '--base', '/full.qcow2'], /is absolute/],
      [[uri, ...delta, '--base-format', 'vmdk'], /--base-format <format>' argument 'vmdk' is invalid/],
      [[uri, ...delta, '--base-size', 'large'], /is not a size/],
    ];
    // Every other command line is one of measure.
    for (const [index, [args, message]] of refused.entries()) {
      const { code, stdout, stderr } = await disklift([index % 2 === 0 ? 'stream' : 'measure', ...args]);
      assert.deepEqual([code, stdout.length], [2, 0], `${args.join(' ')}: ${stderr}`);
      assert.match(stderr, message);
      assert.match(stderr, /^disklift: [^\n]+\n$/, 'one line');
    }
  });
});
