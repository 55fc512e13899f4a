/** Traps in which other programs lose changes without an error, with real QEMU: each ends right or without an image. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { overwriteBitmap } from '../helpers/bitmap-cluster.ts';
import { createImage } from '../helpers/create-image.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { type Fault, startFaultProxy } from '../helpers/fault-proxy.ts';
import { startListening } from '../helpers/listening-process.ts';
import { startQemuNbd } from '../helpers/nbd-servers.ts';
import { runCommand, runShell } from '../helpers/run-command.ts';
import { createRandom, SEED_TEXT, seedOf } from '../helpers/seed.ts';
import { startStorageDaemon } from '../helpers/storage-daemon.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GRANULARITY = 64 * KIB;
const CUTS = 8;

async function succeeds(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout.toString();
}

describe('a delta', function () {
  this.timeout(120_000);
  const temp = useTempDir();

  const deltaFlags = ['--changed', 'qemu:dirty-bitmap:frozen', '--base', 'full.qcow2'];
  const stream = (uri: string, name: string, flags: readonly string[]) =>
    runShell(`${diskliftLine(['stream', uri, ...flags])} > '${temp(name)}'`);
  const compare = (uri: string, name: string) => succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', uri, temp(name)]);

  /** An image whose bitmap calls every other sector dirty, and whose sectors all differ from an empty base. */
  async function createStripes(size: string): Promise<void> {
    await createImage(temp('full.qcow2'), { format: 'qcow2', size, options: ['cluster_size=512'] });
    await createImage(temp('disk.qcow2'), { format: 'qcow2', size });
    await succeeds('qemu-img', ['bitmap', '--add', '-g', '512', temp('disk.qcow2'), 'frozen']);
    await succeeds('qemu-io', ['-c', `write -q -P 7 512 ${Number.parseInt(size, 10) * MIB - 512}`, temp('disk.qcow2')]);
    await overwriteBitmap(temp('disk.qcow2'), 0xaa);
  }

  it('has all changes of a map that QEMU cuts where the other context goes on', async () => {
    // 262,144 extents in one answer of base:allocation, which has one or two.
    await createStripes('128M');
    await using server = await startQemuNbd(temp('nbd.sock'), temp('disk.qcow2'), 'qcow2', ['-B', 'frozen']);
    const measured = await disklift(['measure', server.uri, ...deltaFlags, '-c', '512', '--output', 'json']);
    const half = (128 * MIB) / 1024;
    const { clusters, extents } = JSON.parse(measured.stdout.toString()) as { clusters: object; extents: number };
    assert.deepEqual([clusters, extents], [{ total: 2 * half, data: half, zero: 0, hole: 0, unchanged: half }, half]);
    const { code, stderr } = await stream(server.uri, 'delta.qcow2', deltaFlags);
    assert.deepEqual([code, stderr], [0, '']);
    await compare(server.uri, 'delta.qcow2');
  });

  it('is right for a disk with a raw external data file, which has no holes', async () => {
    const options = [`data_file=${temp('data.raw')}`, 'data_file_raw=on'];
    await createImage(temp('disk'), { format: 'qcow2', size: '8M', options });
    await using daemon = await startStorageDaemon({ path: temp('disk'), format: 'qcow2' }, path.dirname(temp('disk')));
    await daemon.guest(['write -q -P 1 0 4M']);
    await daemon.addBitmap('tracker', GRANULARITY);
    await daemon.exported(undefined, async (uri) => assert.equal((await stream(uri, 'full.qcow2', [])).code, 0));
    await daemon.guest([
      'write -q -P 2 1M 4k',
      'write -q -z 2M 64k',
      'discard -q 3M 128k',
      'write -q -z -u 512k 64k',
      'write -q -P 3 7M 1M',
    ]);
    await daemon.freezeBitmap('tracker', 'frozen', GRANULARITY);
    await daemon.exported('frozen', async (uri) => {
      assert.equal((await stream(uri, 'delta.qcow2', deltaFlags)).code, 0);
      await compare(uri, 'delta.qcow2');
    });
  });

  /** Serves the disk by TCP, behind a proxy. */
  async function withProxy<T>(faults: Fault[], use: (uri: string, passedBytes: () => number) => Promise<T>): Promise<T> {
    await using server = await startListening({
      command: 'qemu-nbd',
      args: (port) => [
        '-r',
        '--persistent',
        '-f',
        'qcow2',
        '-x',
        'disk',
        '-B',
        'frozen',
        '-b',
        '127.0.0.1',
        '-p',
        `${port}`,
        temp('disk.qcow2'),
      ],
    });
    await using proxy = await startFaultProxy(server.port, ...faults);
    return await use(`nbd://127.0.0.1:${proxy.port}/disk`, () => proxy.passed.toClient);
  }

  it(`is no image when the connection ends in the map, the data or between them ${SEED_TEXT}`, async () => {
    await createStripes('4M');
    const wholeBytes = await withProxy([], async (uri, passedBytes) => {
      assert.equal((await stream(uri, 'whole.qcow2', deltaFlags)).code, 0);
      return passedBytes();
    });
    const sizeBytes = (await stat(temp('whole.qcow2'))).size;
    const random = createRandom(seedOf(0));
    const positions = [1, wholeBytes - 1, ...Array.from({ length: CUTS }, () => 1 + Math.floor(random() * (wholeBytes - 1)))];
    for (const [index, atByte] of positions.entries()) {
      const kind = index % 2 === 0 ? 'end' : 'reset';
      await withProxy([{ kind, direction: 'toClient', atByte, everywhere: true }], async (uri) => {
        const { code, stderr } = await stream(uri, 'cut.qcow2', deltaFlags);
        assert.equal(code, 1, `${kind} at byte ${atByte} of ${wholeBytes}: ${stderr}`);
        assert.ok((await stat(temp('cut.qcow2'))).size < sizeBytes, `${kind} at byte ${atByte}`);
      });
    }
  });

  /** Streams to this process, and acts when some data has arrived and the rest has not been read. */
  async function streamAndAct(uri: string, act: () => Promise<unknown>): Promise<{ code: number | null; stderr: string; bytes: number }> {
    const child = spawn('bash', ['-c', `exec ${diskliftLine(['stream', uri, ...deltaFlags])}`], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = once(child, 'close');
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk;
    });
    let bytes = 0;
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      const isFirst = bytes === 0;
      bytes += chunk.length;
      if (isFirst) await act();
    }
    const [code] = (await ended) as [number | null];
    return { code, stderr, bytes };
  }

  it('has a bitmap that QEMU keeps while it is exported, and no image when the export ends first', async () => {
    await createImage(temp('disk'), { format: 'qcow2', size: '64M' });
    await using daemon = await startStorageDaemon({ path: temp('disk'), format: 'qcow2' }, path.dirname(temp('disk')));
    await daemon.addBitmap('tracker', GRANULARITY);
    await daemon.guest(['write -q -P 1 0 64M']);
    await daemon.freezeBitmap('tracker', 'frozen', GRANULARITY);
    await daemon.command('block-export-add', { type: 'nbd', id: 'own', 'node-name': 'disk', name: 'own', bitmaps: ['frozen'] });
    const frozen = { node: 'disk', name: 'frozen' };
    const { code, stderr, bytes } = await streamAndAct(`nbd+unix:///own?socket=${temp('disk.sock')}`, async () => {
      for (const command of ['block-dirty-bitmap-remove', 'block-dirty-bitmap-clear', 'block-dirty-bitmap-enable'])
        await assert.rejects(daemon.command(command, frozen), /in use by another operation/);
      const merge = { node: 'disk', target: 'frozen', bitmaps: ['tracker'] };
      await assert.rejects(daemon.command('block-dirty-bitmap-merge', merge), /in use by another operation/);
      await daemon.command('block-export-del', { id: 'own', mode: 'hard' });
    });
    assert.equal(code, 1, stderr);
    assert.match(stderr, /closed the connection|was reset/);
    assert.ok(bytes < 64 * MIB);
  });

  it('is no image when the server is started again with another bitmap of that name', async () => {
    await createImage(temp('disk.qcow2'), { format: 'qcow2', size: '64M' });
    await succeeds('qemu-img', ['bitmap', '--add', temp('disk.qcow2'), 'frozen']);
    await succeeds('qemu-io', ['-c', 'write -q -P 1 0 64M', temp('disk.qcow2')]);
    const first = await startQemuNbd(temp('nbd.sock'), temp('disk.qcow2'), 'qcow2', ['-B', 'frozen']);
    const started: AsyncDisposable[] = [];
    const { code, stderr, bytes } = await streamAndAct(first.uri, async () => {
      await first[Symbol.asyncDispose]();
      await rm(temp('nbd.sock'));
      await succeeds('qemu-img', ['bitmap', '--clear', temp('disk.qcow2'), 'frozen']);
      started.push(await startQemuNbd(temp('nbd.sock'), temp('disk.qcow2'), 'qcow2', ['-B', 'frozen']));
    });
    for (const server of started) await server[Symbol.asyncDispose]();
    assert.equal(code, 1, stderr);
    assert.ok(bytes < 64 * MIB);
  });

  it('is right by block hashes when the disk was shrunk and grown back, which a bitmap does not show', async () => {
    await createImage(temp('disk'), { format: 'qcow2', size: '8M' });
    await using daemon = await startStorageDaemon({ path: temp('disk'), format: 'qcow2' }, path.dirname(temp('disk')));
    await daemon.guest(['write -q -P 1 0 8M']);
    await daemon.addBitmap('tracker', GRANULARITY);
    const full = (uri: string) => stream(uri, 'full.qcow2', ['--write-blocks', temp('full.blocks')]);
    await daemon.exported(undefined, async (uri) => assert.equal((await full(uri)).code, 0));
    await daemon.resize(4 * MIB + 512);
    await daemon.resize(8 * MIB);
    await daemon.guest(['write -q -P 2 0 4k']);
    await daemon.freezeBitmap('tracker', 'frozen', GRANULARITY);
    await daemon.exported('frozen', async (uri) => {
      assert.equal((await stream(uri, 'trusting.qcow2', deltaFlags)).code, 0);
      const trusting = await runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', uri, temp('trusting.qcow2')]);
      assert.match(`${trusting.stdout}`, /Content mismatch at offset 4\d+/, 'the bitmap misses what the disk has lost');
      const hashed = await stream(uri, 'delta.qcow2', ['--changed', `blocks:${temp('full.blocks')}`, '--base', 'full.qcow2']);
      assert.deepEqual([hashed.code, hashed.stderr], [0, '']);
      await compare(uri, 'delta.qcow2');
    });
  });

  it('is refused when the disk has shrunk since its base, whose size is given', async () => {
    await createImage(temp('disk'), { format: 'qcow2', size: '8M' });
    await using daemon = await startStorageDaemon({ path: temp('disk'), format: 'qcow2' }, path.dirname(temp('disk')));
    await daemon.guest(['write -q -P 1 0 8M']);
    await daemon.addBitmap('tracker', GRANULARITY);
    await daemon.exported(undefined, async (uri) => assert.equal((await stream(uri, 'full.qcow2', [])).code, 0));
    await daemon.resize(4 * MIB);
    await daemon.freezeBitmap('tracker', 'frozen', GRANULARITY);
    await daemon.exported('frozen', async (uri) => {
      const { code, stdout, stderr } = await disklift(['stream', uri, ...deltaFlags, '--base-size', '8M']);
      assert.deepEqual([code, stdout.length], [2, 0]);
      assert.match(stderr, /fewer than the 8388608 of its base/);
    });
  });
});
