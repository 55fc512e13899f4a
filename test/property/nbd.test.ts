import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import type { DiskSource } from '../../src/sources/contract.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { type NbdServer, openNbd, startNbdkit, startQemuNbd } from '../helpers/nbd-servers.ts';
import { runCommand } from '../helpers/run-command.ts';
import { SEED, SEED_TEXT } from '../helpers/seed.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

/** Bytes here and there, repeated patterns, sectors, long gaps, and an odd end. */
const DATA = '( 0x55 0xAA )*3000 @5000000 ( 1 2 3 )*70000 @0x700000 0xFF @0x900001 ( "disk" )*300000 @12345678 1';
const DATA_SIZE_BYTES = 16 * MIB + 700;

const SPARSE_SIZE_BYTES = 64 * MIB;

describe('an NBD disk', () => {
  const temp = useTempDir();

  /** The bytes that another client reads. */
  async function truthOf({ socketPath, exportName }: NbdServer): Promise<Buffer> {
    const image = `driver=nbd,export=${exportName},server.type=unix,server.path=${socketPath}`;
    const { code, stderr } = await runCommand('qemu-img', ['convert', '--image-opts', image, '-O', 'raw', temp('truth.img')]);
    assert.equal(code, 0, stderr);
    return readFile(temp('truth.img'));
  }

  async function assertReadsAs(server: NbdServer, truth: Buffer): Promise<void> {
    const source = await openNbd(server);
    try {
      assert.equal(source.sizeBytes, truth.length);
      await assertExtents(source, truth);
      await assertRanges(source, truth);
    } finally {
      await source.dispose();
    }
  }

  async function assertExtents(source: DiskSource, truth: Buffer): Promise<void> {
    let at = 0;
    let zeroBytes = 0;
    for await (const { offset, length, kind } of source.extents(NEVER)) {
      assert.equal(offset, at);
      at += length;
      if (kind === 'data') continue;
      zeroBytes += length;
      assert.ok(
        truth.subarray(offset, at).every((byte) => byte === 0),
        `zeros from ${offset} to ${at}`,
      );
    }
    assert.equal(at, source.sizeBytes);
    assert.ok(zeroBytes > source.sizeBytes / 4, `${zeroBytes} bytes of zeros`);
  }

  async function assertRanges(source: DiskSource, truth: Buffer): Promise<void> {
    const { sizeBytes } = source;
    const place = fc.oneof(
      fc.nat({ max: sizeBytes - 1 }),
      fc.nat({ max: Math.floor(sizeBytes / 512) - 1 }).map((sector) => 512 * sector),
    );
    const length = fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 3 * MIB }), fc.constant(sizeBytes));
    const ranges = fc.array(fc.tuple(place, length), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(ranges, async (wanted) => {
        const reads = wanted.map(async ([start, most]) => {
          const buffer = Buffer.alloc(Math.min(most, sizeBytes - start), 0xcc);
          await source.read(buffer, start, NEVER);
          assert.ok(buffer.equals(truth.subarray(start, start + buffer.length)), `${buffer.length} bytes at ${start}`);
        });
        await Promise.all(reads);
      }),
      { seed: SEED, numRuns: 200, interruptAfterTimeLimit: 3000, markInterruptAsFailure: false },
    );
  }

  const nbdkits: [string, string[], number][] = [
    ["nbdkit's data", ['data', DATA, `size=${DATA_SIZE_BYTES}`], DATA_SIZE_BYTES],
    [
      "nbdkit's sparse random",
      // The filter reads whole blocks: a read that begins inside of a block gets other bytes from the plugin than
      // before.
      ['--filter=blocksize', 'sparse-random', `${SPARSE_SIZE_BYTES}`, `seed=${SEED}`, 'percent=20', 'runlength=100000', 'minblock=32K'],
      SPARSE_SIZE_BYTES,
    ],
  ];
  for (const [what, args, sizeBytes] of nbdkits)
    it(`of ${what} has the same bytes in any range as for another client ${SEED_TEXT}`, async () => {
      await using server = await startNbdkit(temp('nbd.sock'), args);
      const truth = await truthOf(server);
      // qemu-img rounds up to whole sectors.
      await assertReadsAs(server, truth.subarray(0, sizeBytes));
    });

  it(`of qemu-nbd has the same bytes in any range as the raw disk that it was made from ${SEED_TEXT}`, async () => {
    await using server = await startNbdkit(temp('nbd.sock'), ['sparse-random', `${SPARSE_SIZE_BYTES}`, `seed=${SEED}`, 'percent=20']);
    const truth = await truthOf(server);
    const { code, stderr } = await runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', temp('truth.img'), temp('disk.qcow2')]);
    assert.equal(code, 0, stderr);
    await using qemu = await startQemuNbd(temp('qemu.sock'), temp('disk.qcow2'), 'qcow2');
    await assertReadsAs(qemu, truth);
  });
});
