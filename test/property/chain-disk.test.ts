import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { DiskliftError } from '../../src/common/errors.ts';
import { createLimiter } from '../../src/common/limiter.ts';
import { openChainDisk } from '../../src/formats/chain/chain-disk.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { nameLocalImage } from '../../src/sources/remote/local-folder.ts';
import { createImage } from '../helpers/create-image.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT, seedOf } from '../helpers/seed.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const TIME_BOX_MS = Number(process.env.DISKLIFT_CHAIN_MS ?? 10_000);
const JUDGED_BY_QEMU = 40;
const OPTIONS = { libc: loadLibc(), readLimit: createLimiter(8) };

/** @returns the bytes of the disk, in reads of random lengths; the error where the disk cannot be read */
async function readByUs(path: string, random: () => number): Promise<Buffer | DiskliftError> {
  try {
    const disk = await openChainDisk(nameLocalImage(path, undefined, OPTIONS), 'qcow2', NEVER);
    try {
      const content = Buffer.alloc(disk.sizeBytes, 0xee);
      for await (const { offset, length, kind } of disk.extents(NEVER)) {
        if (kind === 'zeros') content.fill(0, offset, offset + length);
        else
          for (let at = offset; at < offset + length; ) {
            const end = Math.min(offset + length, at + 1 + Math.floor(random() * 300_000));
            await disk.read(content.subarray(at, end), at, NEVER);
            at = end;
          }
      }
      return content;
    } finally {
      await disk.dispose();
    }
  } catch (error) {
    assert.ok(error instanceof DiskliftError, error instanceof Error ? error.stack : String(error));
    return error;
  }
}

describe('a chain of images read by ranges', () => {
  const temp = useTempDir();

  /** @returns undefined where QEMU fails */
  async function readByQemu(path: string): Promise<Buffer | undefined> {
    const { code } = await runCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, temp('by-qemu.img')]);
    return code === 0 ? readFile(temp('by-qemu.img')) : undefined;
  }

  async function write(path: string, random: () => number, sizeBytes: number): Promise<void> {
    const commands = Array.from({ length: 8 }, (_, index) => {
      const offset = 512 * Math.floor((random() * sizeBytes) / 512);
      const length = Math.min(sizeBytes - offset, 512 * Math.ceil(random() * 200));
      const [isZero, isCompressed] = [random() < 0.25, random() < 0.3];
      if (isZero) return `write -z ${offset} ${length}`;
      return isCompressed ? `write -c -P ${index + 1} ${offset - (offset % 65_536)} 64k` : `write -P ${index + 1} ${offset} ${length}`;
    });
    // A compressed write to the disk's end may be refused; the other commands still run.
    await runCommand('qemu-io', [...commands.flatMap((command) => ['-c', command]), path]);
  }

  for (const [name, options] of [
    ['clusters of 512 bytes, version 2', ['compat=0.10', 'cluster_size=512']],
    ['clusters of 4 KiB', ['cluster_size=4k']],
    ['clusters of 64 KiB, zstd', ['compression_type=zstd']],
    ['clusters of 2 MiB, refcounts of 1 bit', ['cluster_size=2M', 'refcount_bits=1']],
  ] as const)
    it(`has the bytes that QEMU reads: ${name} ${SEED_TEXT}`, async function () {
      this.timeout(60_000);
      const random = createRandom(seedOf(name.length));
      const sizes = [3_000_320, 5_000_192, 4_194_304];
      await writeFile(temp('0.img'), Buffer.alloc(1_234_567 - (1_234_567 % 512), 0x77));
      let below: { name: string; format: string } = { name: '0.img', format: 'raw' };
      for (const [index, size] of sizes.entries()) {
        const path = temp(`${index + 1}.qcow2`);
        await createImage(path, { format: 'qcow2', options, size: `${size}`, backing: below });
        await write(path, random, size);
        const [own, qemu] = [await readByUs(path, random), await readByQemu(path)];
        assert.ok(own instanceof Buffer, String(own));
        assert.ok(qemu?.equals(own), `layer ${index + 1}`);
        below = { name: `${index + 1}.qcow2`, format: 'qcow2' };
      }
    });

  it('refuses extended L2 entries and data files, which it does not read', async () => {
    for (const option of ['extended_l2=on', `data_file=${temp('data.raw')}`]) {
      const path = temp('a.qcow2');
      await createImage(path, { format: 'qcow2', options: [option], size: '1M' });
      const own = await readByUs(path, Math.random);
      assert.ok(own instanceof DiskliftError && own.code === 'FormatUnsupported', String(own));
    }
  });

  it(`gives a typed error or the bytes that QEMU reads, of tables with mistakes ${SEED_TEXT}`, async function () {
    this.timeout(TIME_BOX_MS + 60_000);
    const random = createRandom(SEED);
    const whole = (below: number) => Math.floor(random() * below);
    await createImage(temp('base.qcow2'), { format: 'qcow2', options: ['cluster_size=4k'], size: '1M' });
    await write(temp('base.qcow2'), random, 1_048_576);
    const originals: Buffer[] = [];
    for (const options of [['cluster_size=4k'], ['cluster_size=1k', 'compression_type=zstd'], ['cluster_size=64k']]) {
      await createImage(temp('top.qcow2'), { format: 'qcow2', options, size: '1200k', backing: { name: 'base.qcow2', format: 'qcow2' } });
      await write(temp('top.qcow2'), random, 1_228_800);
      originals.push(await readFile(temp('top.qcow2')));
    }
    let [judged, rounds, disks] = [0, 0, 0];
    for (const endMs = performance.now() + TIME_BOX_MS; performance.now() < endMs; rounds += 1) {
      const bytes = Buffer.from(originals[rounds % originals.length] as Buffer);
      for (let count = 1 + whole(3); count > 0; count -= 1) {
        const [at, kind] = [whole(whole(4) === 0 ? 512 : bytes.length), whole(3)];
        const word = Math.min(at - (at % 8), bytes.length - 8);
        if (kind === 0) bytes[at] = (bytes[at] as number) ^ (1 << whole(8));
        else if (kind === 1) bytes.writeBigUInt64BE(BigInt(512 * whole(bytes.length / 256)), word);
        else bytes.writeBigUInt64BE(bytes.readBigUInt64BE(8 * whole(bytes.length / 8 - 1)), word);
      }
      const length = whole(10) === 0 ? whole(bytes.length) : bytes.length;
      await writeFile(temp('top.qcow2'), bytes.subarray(0, length));
      const own = await readByUs(temp('top.qcow2'), random);
      if (own instanceof DiskliftError) continue;
      disks += 1;
      if (judged >= JUDGED_BY_QEMU || rounds % 5 !== 0) continue;
      judged += 1;
      const qemu = await readByQemu(temp('top.qcow2'));
      // QEMU refuses more than a reader of the disk needs, such as snapshots with mistakes.
      if (qemu !== undefined) assert.ok(qemu.equals(own), `round ${rounds} differs from QEMU's disk`);
    }
    assert.ok(disks > 0 && judged > 0, `${rounds} rounds, ${disks} disks, ${judged} judged`);
  });
});
