/** VMDKs of flat extents, which are read without QEMU. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import type { DiskFormat } from '../../../src/formats/formats.ts';
import type { DiskSource } from '../../../src/sources/contract.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { openAsRequested, readDisk } from '../../helpers/open-image.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const MIB = 2 ** 20;
const SECTOR = 512;

describe('a VMDK of flat extents', () => {
  const temp = useTempDir();

  function describeExtents(name: string, lines: readonly string[]): void {
    const head = ['# Disk DescriptorFile', 'version=1', 'CID=7e5b80a7', 'parentCID=ffffffff', 'createType="twoGbMaxExtentFlat"'];
    writeFileSync(temp(name), [...head, ...lines, '#DDB', 'ddb.adapterType = "ide"', ''].join('\n'));
  }

  async function use<T>(name: string, format: DiskFormat, task: (disk: DiskSource) => Promise<T>): Promise<T> {
    const disk = await openAsRequested(temp(name), format);
    try {
      return await task(disk);
    } finally {
      await disk.dispose();
    }
  }

  /** Only a disk that disklift reads without QEMU reports where its bytes lie in files. */
  async function assertReadByUs(name: string, format: DiskFormat, content: Buffer): Promise<void> {
    await use(name, format, async (disk) => {
      assert.ok(disk.fileExtents !== undefined, 'a child of QEMU reads it');
      assert.ok(content.equals(await readDisk(disk, 1_000_003)));
    });
  }

  it('has the bytes of its extents, each from its offset on, and zeros for extents of type ZERO', async () => {
    const [a, b] = [randomBytes(3 * MIB), randomBytes(MIB)];
    writeFileSync(temp('a'), a);
    writeFileSync(temp('b'), b);
    describeExtents('disk.vmdk', [
      'RW 2048 FLAT "a" 4096',
      'RW 100 ZERO',
      'RDONLY 8 VMFS "b"',
      'RW 1 FLAT "a" 0',
      'RW 3 FLAT "b" 2045',
      'RW 5 ZERO',
    ]);
    const at = (bytes: Buffer, sector: number, sectors: number) => bytes.subarray(sector * SECTOR, (sector + sectors) * SECTOR);
    const content = [at(a, 4096, 2048), Buffer.alloc(100 * SECTOR), at(b, 0, 8), at(a, 0, 1), at(b, 2045, 3), Buffer.alloc(5 * SECTOR)];
    await assertReadByUs('disk.vmdk', 'vmdk', Buffer.concat(content));
  });

  it('is read as qemu-img reads it, with its holes, and behind a qcow2 image', async () => {
    for (const [subformat, part] of [
      ['monolithicFlat', 'disk-flat.vmdk'],
      ['twoGbMaxExtentFlat', 'disk-f001.vmdk'],
    ] as const) {
      await createImage(temp('disk.vmdk'), { format: 'vmdk', options: [`subformat=${subformat}`], size: '40M' });
      truncateSync(temp(part), 0);
      writeFileSync(temp(part), Buffer.concat([Buffer.alloc(MIB), randomBytes(MIB)]));
      truncateSync(temp(part), 40 * MIB);
      await createImage(temp('top.qcow2'), { format: 'qcow2', backing: { name: 'disk.vmdk', format: 'vmdk' } });
      const { code } = await runCommand('qemu-img', ['convert', '-f', 'vmdk', '-O', 'raw', temp('disk.vmdk'), temp('wanted.raw')]);
      assert.equal(code, 0);
      const wanted = readFileSync(temp('wanted.raw'));
      await assertReadByUs('disk.vmdk', 'vmdk', wanted);
      await assertReadByUs('top.qcow2', 'qcow2', wanted);
      await use('disk.vmdk', 'vmdk', async (disk) => {
        let holeBytes = 0;
        for await (const { kind, length } of disk.extents(NEVER)) if (kind === 'zeros') holeBytes += length;
        assert.ok(holeBytes >= 37 * MIB);
      });
    }
  });

  it('may have 512 extents, and its identity names them in their order', async () => {
    const pieces = Array.from({ length: 512 }, () => randomBytes(2 * SECTOR));
    for (const [index, bytes] of pieces.entries()) writeFileSync(temp(`disk-f${index}`), bytes);
    describeExtents(
      'disk.vmdk',
      pieces.map((_, index) => `RW 2 FLAT "disk-f${index}" 0`),
    );
    await assertReadByUs('disk.vmdk', 'vmdk', Buffer.concat(pieces));
    const identities = [
      await use('disk.vmdk', 'vmdk', (disk) => disk.identity()),
      await use('disk.vmdk', 'vmdk', (disk) => disk.identity()),
    ];
    assert.deepEqual(identities[0], identities[1]);
    await use('disk.vmdk', 'vmdk', async (disk) => {
      writeFileSync(temp('disk-f300'), randomBytes(2 * SECTOR));
      await assert.rejects(disk.identity(), failsWith('SourceChanged', /disk-f300: /));
    });
  });

  it('is refused when extents are missing, names the first one, and leaves no file open', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `disk-f${index}`);
    for (const name of names) writeFileSync(temp(name), Buffer.alloc(SECTOR));
    describeExtents(
      'disk.vmdk',
      names.map((name) => `RW 1 FLAT "${name}" 0`),
    );
    const opened = () => process.getActiveResourcesInfo().filter((each) => each === 'FileHandle').length;
    const before = opened();
    for (const name of ['disk-f150', 'disk-f120', 'disk-f121']) rmSync(temp(name));
    await assert.rejects(openAsRequested(temp('disk.vmdk'), 'vmdk'), failsWith('SourceNotFound', /its extent "disk-f120"/));
    assert.equal(opened(), before);
  });

  it('is refused when nothing behind its extents shows that the list is complete', async () => {
    writeFileSync(temp('a'), Buffer.alloc(MIB));
    writeFileSync(temp('disk.vmdk'), '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\nRW 2048 FLAT "a" 0\n');
    await assert.rejects(openAsRequested(temp('disk.vmdk'), 'vmdk'), failsWith('FormatUnsupported', /add the line # End/));
  });

  it('is refused when one of its lines is a misspelled extent, because that part of the disk would be lost', async () => {
    writeFileSync(temp('a'), randomBytes(MIB));
    for (const line of [
      'rw 1024 FLAT "a" 1024',
      'Rdonly 1024 FLAT "a"',
      'R 1024 FLAT "a" 1024',
      'READ_WRITE\t1024 ZERO',
      'noaccess 8 ZERO',
    ]) {
      describeExtents('disk.vmdk', ['RW 1024 FLAT "a" 0', line]);
      await assert.rejects(
        openAsRequested(temp('disk.vmdk'), 'vmdk'),
        failsWith('FormatUnsupported', /disk\.vmdk: has an extent that/),
        line,
      );
    }
  });

  describe('whose extents lie beside it and in a directory', () => {
    const CHANGES: readonly (readonly [string, RegExp, () => void])[] = [
      ['is written to', /a: [cm]time has changed/, () => writeFileSync(temp('a'), randomBytes(MIB), { flag: 'r+' })],
      ['is another file of the same bytes', /a: is another file/, () => replaceByCopy('a')],
      ['is the same file behind a link', /a: is or lies behind a symbolic link/, () => putBehindLink('a')],
      ['has no name any more', /a: /, () => rmSync(temp('a'))],
      ['is another file of a directory', /b: is another file/, () => replaceByCopy('parts/b')],
      ['lies in the same directory behind a link', /b: is or lies behind a symbolic link/, () => putBehindLink('parts')],
    ];

    function replaceByCopy(name: string): void {
      cpSync(temp(name), temp('new'));
      renameSync(temp('new'), temp(name));
    }

    function putBehindLink(name: string): void {
      renameSync(temp(name), temp('moved'));
      symlinkSync('moved', temp(name));
    }

    for (const [what, message, change] of CHANGES)
      it(`has changed when one of them ${what}`, async () => {
        mkdirSync(temp('parts'));
        writeFileSync(temp('a'), randomBytes(MIB));
        writeFileSync(temp('parts/b'), randomBytes(MIB));
        describeExtents('disk.vmdk', ['RW 2048 FLAT "a" 0', 'RW 2048 FLAT "parts/b" 0']);
        await use('disk.vmdk', 'vmdk', async (disk) => {
          assert.deepEqual(await disk.identity(), await disk.identity());
          change();
          await assert.rejects(disk.identity(), ({ message: text }: Error) => message.test(text) || assert.fail(text));
        });
      });
  });

  it('fails when an extent becomes shorter than it was', async () => {
    writeFileSync(temp('a'), randomBytes(MIB));
    describeExtents('disk.vmdk', ['RW 2048 FLAT "a" 0']);
    await use('disk.vmdk', 'vmdk', async (disk) => {
      truncateSync(temp('a'), MIB / 2);
      await assert.rejects(readDisk(disk), failsWith('SourceChanged', /a: ends at offset 524288/));
    });
  });
});
