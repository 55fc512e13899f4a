/** Images of random data, cut at every kind of place: QEMU would read zeros in place of what they have lost. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { deflateRawSync } from 'node:zlib';
import type { DiskFormat } from '../../../src/formats/formats.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { judgeCutImage } from '../../helpers/judge-cut-image.ts';
import { openAsRequested } from '../../helpers/open-image.ts';
import { linkPrograms, QEMU_PROGRAMS, withPath } from '../../helpers/qemu-programs.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { addVhdxLog } from '../../helpers/vhdx-log.ts';

const MIB = 2 ** 20;
const CUT_SHORT = /: is cut short or damaged: .* \d+/;

interface Way {
  name: string;
  format: DiskFormat;
  flags: string[];
  /** The expected error of the truncated images, where it differs. */
  refusal?: RegExp;
  /** Bytes that may be missing at the end although the disk is whole. */
  paddingBytes?: number;
}

const VPC_REFUSAL = /its first and its last sector make no VHD/;

/** The last block of 2 MiB holds one sector of the disk, and the footer behind it is a copy. */
const VPC_PADDING_BYTES = 2 * MIB;

const WAYS: Way[] = [
  { name: 'qcow2', format: 'qcow2', flags: [] },
  { name: 'qcow2 of version 2', format: 'qcow2', flags: ['-o', 'compat=0.10,cluster_size=4k'] },
  { name: 'qcow2 with extended L2 entries', format: 'qcow2', flags: ['-o', 'extended_l2=on'] },
  { name: 'compressed qcow2', format: 'qcow2', flags: ['-c'] },
  { name: 'qcow2 compressed by zstd', format: 'qcow2', flags: ['-c', '-o', 'compression_type=zstd,cluster_size=4k'] },
  { name: 'compressed qcow2 with extended L2 entries', format: 'qcow2', flags: ['-c', '-o', 'extended_l2=on,cluster_size=16k'] },
  { name: 'VMDK monolithicSparse', format: 'vmdk', flags: ['-o', 'subformat=monolithicSparse'] },
  { name: 'VMDK twoGbMaxExtentSparse', format: 'vmdk', flags: ['-o', 'subformat=twoGbMaxExtentSparse'] },
  { name: 'VMDK streamOptimized', format: 'vmdk', flags: ['-o', 'subformat=streamOptimized'] },
  { name: 'VMDK monolithicFlat', format: 'vmdk', flags: ['-o', 'subformat=monolithicFlat'], refusal: /is incomplete/ },
  { name: 'dynamic VHDX', format: 'vhdx', flags: ['-o', 'subformat=dynamic,block_size=1M'] },
  { name: 'fixed VHDX', format: 'vhdx', flags: ['-o', 'subformat=fixed,block_size=1M'] },
  { name: 'dynamic VDI', format: 'vdi', flags: [] },
  { name: 'static VDI', format: 'vdi', flags: ['-o', 'static=on'] },
  { name: 'dynamic VPC', format: 'vpc', flags: ['-o', 'subformat=dynamic,force_size=on'], paddingBytes: VPC_PADDING_BYTES },
  { name: 'fixed VPC', format: 'vpc', flags: ['-o', 'subformat=fixed,force_size=on'], refusal: VPC_REFUSAL },
];

describe('a truncated image', function () {
  this.timeout(20_000);
  const temp = useTempDir();

  async function run(program: string, args: readonly string[]): Promise<void> {
    const { code, stderr } = await runCommand(program, args, { cwd: temp('') });
    assert.equal(code, 0, `${program} ${args.join(' ')}: ${stderr}`);
  }

  /** Random at its beginning and its end, not a multiple of any block. */
  async function makeDisk(): Promise<Buffer> {
    const content = Buffer.alloc(4 * MIB + 512);
    randomBytes(1.5 * MIB).copy(content);
    randomBytes(MIB).copy(content, content.length - MIB);
    await fs.writeFile(temp('disk.raw'), content);
    return content;
  }

  /** The file that has the data, which is not always the one that names it. */
  function largest(format: string): string {
    const files = readdirSync(temp('')).filter((name) => name.endsWith(`.${format}`));
    const sized = files.map((name) => ({ name, size: statSync(temp(name)).size }));
    return temp((sized.toSorted((a, b) => b.size - a.size)[0] ?? assert.fail('no file')).name);
  }

  for (const { name, format, flags, refusal = CUT_SHORT, paddingBytes = 0 } of WAYS)
    it(`is refused, or has the whole disk: ${name}`, async () => {
      const content = await makeDisk();
      const image = `image.${format}`;
      await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...flags, 'disk.raw', image]);
      const file = largest(format);
      const whole = readFileSync(file);
      const judge = (story: string) => judgeCutImage({ path: temp(image), format, content, story });
      assert.equal(await judge('nothing is missing'), 'whole');
      for (const missing of [MIB + 1, whole.length / 2, whole.length - 400_000]) {
        writeFileSync(file, whole.subarray(0, Math.floor(whole.length - missing)));
        assert.match(await judge(`${missing} bytes are missing`), missing <= paddingBytes ? /^whole$/ : format === 'vhdx' ? /./ : refusal);
      }
      for (const missing of [1, 511, 512, 513, 4096, 70_000]) {
        writeFileSync(file, whole.subarray(0, whole.length - missing));
        const outcome = await judge(`${missing} bytes are missing`);
        if (outcome !== 'whole') assert.match(outcome, refusal);
        if (paddingBytes > 0) assert.equal(outcome, 'whole');
      }
    });

  it('is not reported for an image with scattered writes, in any format', async () => {
    const ways: [DiskFormat, string[]][] = [
      ['qcow2', ['extended_l2=on']],
      ['vmdk', ['subformat=monolithicSparse']],
      ['vmdk', ['subformat=twoGbMaxExtentSparse']],
      ['vhdx', ['block_size=2M']],
      ['vdi', []],
      ['vpc', ['force_size=on']],
    ];
    for (const [format, options] of ways) {
      const image = temp(`a.${format}`);
      await createImage(image, { format, options, size: '9M' });
      await run('qemu-io', ['-f', format, '-c', 'write -P 7 512 512', '-c', 'write -P 8 9436672 512', '-c', 'write -P 9 4M 3k', image]);
      const content = Buffer.alloc(9 * MIB);
      content
        .fill(7, 512, 1024)
        .fill(8, 9_436_672, 9_437_184)
        .fill(9, 4 * MIB, 4 * MIB + 3072);
      assert.equal(await judgeCutImage({ path: image, format, content, story: 'whole' }), 'whole');
    }
  });

  describe('in compressed qcow2', () => {
    /** Several clusters that end within one sector. */
    async function compressed(compression: string): Promise<{ image: string; content: Buffer; whole: Buffer }> {
      const content = Buffer.alloc(MIB, 'a');
      const random = randomBytes(MIB / 4096);
      for (const [index, byte] of random.entries()) content.fill(byte | 1, index * 4096, index * 4096 + 40 + (byte % 7));
      await fs.writeFile(temp('disk.raw'), content);
      const options = `cluster_size=4k,compression_type=${compression}`;
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', options, 'disk.raw', 'a.qcow2']);
      return { image: temp('a.qcow2'), content, whole: readFileSync(temp('a.qcow2')) };
    }

    for (const compression of ['zlib', 'zstd'])
      it(`may lack padding and nothing else, by ${compression}`, async () => {
        const { image, content, whole } = await compressed(compression);
        const outcomes: string[] = [];
        for (let missing = 0; missing < 512; missing += missing < 16 ? 1 : 37) {
          writeFileSync(image, whole.subarray(0, whole.length - missing));
          const outcome = await judgeCutImage({ path: image, format: 'qcow2', content, story: `${missing} bytes are missing` });
          if (outcome !== 'whole')
            assert.match(outcome, /its compressed cluster at byte \d+ goes on, and the file ends at \d+|compressed, from/);
          outcomes.push(outcome);
        }
        // Data, then padding: once it is refused it stays so.
        const firstRefused = outcomes.findIndex((outcome) => outcome !== 'whole');
        assert.ok(firstRefused > 0 && outcomes.slice(firstRefused).every((outcome) => outcome !== 'whole'), `${firstRefused}`);
      });

    it('has the whole disk when the file ends with the last byte of a cluster', async () => {
      await createImage(temp('a.qcow2'), { format: 'qcow2', options: ['cluster_size=64k'], size: '64k' });
      const content = Buffer.alloc(65_536);
      randomBytes(3000).copy(content, 100);
      await fs.writeFile(temp('disk.raw'), content);
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-c', 'disk.raw', 'a.qcow2']);
      const whole = readFileSync(temp('a.qcow2'));
      const l2 = Number(whole.readBigUInt64BE(Number(whole.readBigUInt64BE(40))) & 0x00fffffffffffe00n);
      const offset = Number(whole.readBigUInt64BE(l2) & (2n ** 54n - 1n));
      const stream = deflateRawSync(content);
      assert.ok(offset + stream.length < whole.length);
      const put = (length: number) =>
        writeFileSync(temp('a.qcow2'), Buffer.concat([whole.subarray(0, offset), stream.subarray(0, length)]));
      const sectors = BigInt(Math.floor((offset + stream.length - 1) / 512) - Math.floor(offset / 512));
      whole.writeBigUInt64BE((1n << 62n) | (sectors << 54n) | BigInt(offset), l2);
      const judge = () => judgeCutImage({ path: temp('a.qcow2'), format: 'qcow2', content, story: 'ours' });
      put(stream.length);
      assert.equal(await judge(), 'whole');
      put(stream.length - 12);
      assert.match(await judge(), CUT_SHORT);
    });
  });

  it('is not confused with a VHDX that was not closed', async () => {
    for (const program of QEMU_PROGRAMS) {
      await createImage(temp('a.vhdx'), { format: 'vhdx', size: '4M' });
      addVhdxLog(temp('a.vhdx'));
      await withPath(await linkPrograms(temp(program), [program]), async () => {
        const opening = openAsRequested(temp('a.vhdx'), 'vhdx');
        await assert.rejects(opening, failsWith('FormatUnsupported', /has a log that is not in its tables yet; qemu-img check -r all/));
      });
    }
    await run('qemu-img', ['check', '-r', 'all', 'a.vhdx']);
    await (await openAsRequested(temp('a.vhdx'), 'vhdx')).dispose();
  });

  describe('in VMDK', () => {
    it('has the directory of its grains at its end, or is refused', async () => {
      const content = await makeDisk();
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', 'disk.raw', 'a.vmdk']);
      const first = readFileSync(temp('a.vmdk'));
      const header = Buffer.from(first.subarray(0, 512));
      first.writeBigUInt64LE(2n ** 64n - 1n, 56);
      const [footerMarker, end] = [Buffer.alloc(512), Buffer.alloc(512)];
      footerMarker.writeBigUInt64LE(1n, 0);
      footerMarker.writeUInt32LE(3, 12);
      const whole = Buffer.concat([first, footerMarker, header, end]);
      const judge = async (length: number) => {
        writeFileSync(temp('a.vmdk'), whole.subarray(0, length));
        return judgeCutImage({ path: temp('a.vmdk'), format: 'vmdk', content, story: `${length} of ${whole.length} bytes` });
      };
      assert.equal(await judge(whole.length), 'whole');
      for (const missing of [1, 511]) assert.equal(await judge(whole.length - missing), 'whole');
      for (const missing of [512, 1024, 1536, 70_000, whole.length / 2])
        assert.match(await judge(Math.floor(whole.length - missing)), /has no footer|make no/);
    });

    it('is a descriptor that may have had more extents', async () => {
      await createImage(temp('a.vmdk'), { format: 'vmdk', options: ['subformat=twoGbMaxExtentSparse'], size: '5G' });
      const whole = readFileSync(temp('a.vmdk'));
      let wholeCount = 0;
      const extentsEnd = whole.lastIndexOf('SPARSE');
      for (let length = whole.indexOf('RW '); length < extentsEnd + 30; length += 1) {
        writeFileSync(temp('a.vmdk'), whole.subarray(0, length));
        try {
          const disk = await openAsRequested(temp('a.vmdk'), 'vmdk');
          await disk.dispose();
          assert.ok(disk.sizeBytes === 5 * 1024 * MIB && length > extentsEnd, `${length} bytes of the descriptor`);
          wholeCount += 1;
        } catch (error) {
          assert.ok(failsWith('FormatUnsupported', /a\.vmdk: /)(error), `${length}: ${error}`);
        }
      }
      assert.ok(wholeCount > 0);
    });
  });
});
