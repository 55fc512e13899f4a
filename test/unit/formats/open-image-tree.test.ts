import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { DiskFormat } from '../../../src/formats/formats.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { openTree, outlineOf } from '../../helpers/image-tree.ts';
import { openNames } from '../../helpers/opened-paths.ts';
import { runShell } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

describe('an image with the files that it refers to', () => {
  const temp = useTempDir();
  const open = (relativePath: string, format: DiskFormat, isGuess = false) =>
    openTree({ volumePath: temp(''), relativePath, format, isGuess });

  async function outline(relativePath: string, format: DiskFormat) {
    await using tree = await open(relativePath, format);
    assert.equal(new Set(tree.files.map(({ handle }) => handle.fd)).size, tree.files.length);
    assert.equal(tree.files[0], tree.root);
    return outlineOf(tree.root);
  }

  afterEach(async () => {
    assert.deepEqual(await openNames(temp('')), []);
  });

  for (const [name, format, ...options] of [
    ['a.raw', 'raw'],
    ['a.qcow2', 'qcow2', 'cluster_size=2M'],
    ['a.vhdx', 'vhdx', 'subformat=dynamic'],
    ['b.vhdx', 'vhdx', 'subformat=fixed'],
    ['a.vhd', 'vpc', 'subformat=dynamic'],
    ['b.vhd', 'vpc', 'subformat=fixed'],
    ['a.vdi', 'vdi'],
    ['b.vdi', 'vdi', 'static=on'],
    ['a.vmdk', 'vmdk', 'subformat=monolithicSparse'],
    ['b.vmdk', 'vmdk', 'subformat=streamOptimized'],
  ] as const)
    it(`is one file: ${[format, ...options].join(' ')}`, async () => {
      await createImage(temp(name), { format, options, size: '4M' });
      assert.deepEqual(await outline(name, format), { [format]: name });
    });

  for (const [name, format] of [
    ['a.qcow2', 'qcow2'],
    ['a.vhdx', 'vhdx'],
    ['a.vhd', 'vpc'],
    ['a.vdi', 'vdi'],
    ['a.vmdk', 'vmdk'],
  ] as const)
    it(`is refused when it is truncated or of another format: ${format}`, async () => {
      await createImage(temp(name), { format, size: '4M' });
      writeFileSync(temp(name), readFileSync(temp(name)).subarray(0, 70));
      await assert.rejects(open(name, format), failsWith('FormatUnsupported', /./));
      writeFileSync(temp(name), Buffer.alloc(300_000, 'x'));
      await assert.rejects(open(name, format), failsWith('FormatUnsupported', /./));
    });

  describe('qcow2', () => {
    it('has a backing file of any format, relative to its own directory, at any depth of the chain', async () => {
      mkdirSync(temp('vms/a'), { recursive: true });
      mkdirSync(temp('base'));
      await createImage(temp('base/root.raw'), { format: 'raw', size: '4M' });
      await createImage(temp('base/mid.qcow2'), { format: 'qcow2', backing: { name: './root.raw', format: 'raw' } });
      await createImage(temp('vms/a/top.qcow2'), { format: 'qcow2', backing: { name: '../../base/mid.qcow2', format: 'qcow2' } });
      assert.deepEqual(await outline('vms/a/top.qcow2', 'qcow2'), {
        qcow2: 'top.qcow2',
        backing: { qcow2: 'mid.qcow2', backing: { raw: 'root.raw' } },
      });
      for (const [format, name] of [
        ['vmdk', 'b.vmdk'],
        ['vhdx', 'b.vhdx'],
        ['vdi', 'b.vdi'],
        ['vpc', 'b.vhd'],
      ] as const) {
        await createImage(temp(name), { format, size: '4M' });
        await createImage(temp('top.qcow2'), { format: 'qcow2', backing: { name, format } });
        assert.deepEqual(await outline('top.qcow2', 'qcow2'), { qcow2: 'top.qcow2', backing: { [format]: name } });
      }
    });

    it('has its data in a file beside it', async () => {
      await createImage(temp('a.qcow2'), { format: 'qcow2', options: ['data_file=a.bin', 'data_file_raw=on'], size: '4M' });
      assert.deepEqual(await outline('a.qcow2', 'qcow2'), { qcow2: 'a.qcow2', dataFile: { raw: 'a.bin' } });
      const unnamed = readFileSync(temp('a.qcow2'));
      unnamed.writeUInt32BE(0x77777777, unnamed.indexOf('DATA'));
      writeFileSync(temp('a.qcow2'), unnamed);
      await assert.rejects(open('a.qcow2', 'qcow2'), failsWith('FormatUnsupported', /does not name it/));
    });

    it('may have absolute names beneath each path of the volume', async () => {
      mkdirSync(temp('vol/bases'), { recursive: true });
      symlinkSync('vol', temp('link'));
      await createImage(temp('vol/bases/b.raw'), { format: 'raw', size: '4M' });
      for (const [volume, named] of [
        ['vol', 'vol'],
        ['link', 'vol'],
        ['link', 'link'],
      ] as const)
        for (const rest of ['bases/b.raw', '/bases/.//b.raw', 'bases/../bases/b.raw']) {
          const name = temp(`${named}/`) + rest;
          await createImage(temp('vol/top.qcow2'), { format: 'qcow2', backing: { name, format: 'raw' }, size: '4M' });
          await using tree = await openTree({ volumePath: temp(volume), relativePath: 'top.qcow2', format: 'qcow2' });
          assert.deepEqual(outlineOf(tree.root), { qcow2: 'top.qcow2', backing: { raw: 'b.raw' } });
        }
      await createImage(temp('vol/data.qcow2'), { format: 'qcow2', options: [`data_file=${temp('vol/data.raw')}`], size: '4M' });
      await using tree = await openTree({ volumePath: temp('vol'), relativePath: 'data.qcow2', format: 'qcow2' });
      assert.deepEqual(outlineOf(tree.root), { qcow2: 'data.qcow2', dataFile: { raw: 'data.raw' } });
      const extents = [`RW 2048 FLAT "${temp('vol/bases/b.raw')}" 0`];
      writeFileSync(temp('vol/a.vmdk'), ['# Disk DescriptorFile', 'version=1', 'CID=1', 'parentCID=ffffffff', ...extents, ''].join('\n'));
      await using vmdk = await openTree({ volumePath: temp('vol'), relativePath: 'a.vmdk', format: 'vmdk' });
      assert.deepEqual(Object.keys(outlineOf(vmdk.root)), ['vmdk', 'extents']);
    });

    it('can be repaired by the command in the message when a name leads out of the volume', async () => {
      mkdirSync(temp('elsewhere'));
      mkdirSync(temp("v o'l"));
      await createImage(temp("v o'l/b, 1.raw"), { format: 'raw', size: '4M' });
      await fs.copyFile(temp("v o'l/b, 1.raw"), temp('elsewhere/b, 1.raw'));
      const name = temp('elsewhere/b, 1.raw');
      await createImage(temp("v o'l/backing.qcow2"), { format: 'qcow2', backing: { name, format: 'raw' }, size: '4M' });
      await createImage(temp("v o'l/data.qcow2"), { format: 'qcow2', options: [`data_file=${name.replaceAll(',', ',,')}`], size: '4M' });
      for (const relativePath of ['backing.qcow2', 'data.qcow2']) {
        const openIt = () => openTree({ volumePath: temp("v o'l"), relativePath, format: 'qcow2' });
        const error = await openIt().then(
          () => assert.fail('it was opened'),
          (reason: Error) => reason,
        );
        const [, command] =
          /an absolute path .*; run (qemu-img .*?)( in its directory)?$/.exec(error.message) ?? assert.fail(error.message);
        const { code, stderr } = await runShell(`cd "${temp("v o'l")}" && ${command}`);
        assert.equal(code, 0, stderr.toString());
        await (await openIt())[Symbol.asyncDispose]();
      }
    });

    it('can be opened again, file by file', async () => {
      await createImage(temp('b.raw'), { format: 'raw', size: '4M' });
      await createImage(temp('a.qcow2'), { format: 'qcow2', backing: { name: 'b.raw', format: 'raw' } });
      await using tree = await open('a.qcow2', 'qcow2');
      for (const { handle, reopen } of tree.files) {
        await using reopened = await reopen();
        assert.equal((await reopened.stat()).ino, (await handle.stat()).ino);
      }
    });

    it('reports each opened file before any read of it', async () => {
      await createImage(temp('c.raw'), { format: 'raw', size: '4M' });
      await createImage(temp('b.qcow2'), { format: 'qcow2', backing: { name: 'c.raw', format: 'raw' } });
      await createImage(temp('a.qcow2'), { format: 'qcow2', backing: { name: 'b.qcow2', format: 'qcow2' } });
      const root = { volumePath: temp(''), relativePath: 'a.qcow2', format: 'qcow2' } as const;
      const told: string[] = [];
      const tree = await openTree({ ...root, onOpen: async ({ name }) => void told.push(name) });
      await tree[Symbol.asyncDispose]();
      assert.deepEqual(told, [temp('a.qcow2'), temp('b.qcow2'), temp('c.raw')]);
      writeFileSync(temp('b.qcow2'), 'not read');
      const fail = async ({ name }: { name: string }) => {
        if (name === temp('b.qcow2')) throw new DiskliftError('SourceInUse', 'in use');
      };
      await assert.rejects(openTree({ ...root, onOpen: fail }), failsWith('SourceInUse', /^in use$/));
    });

    describe('without the format of its backing file', () => {
      const put = async (backing: string) => {
        await createImage(temp('a.qcow2'), { format: 'qcow2', backing: { name: backing, format: 'raw' }, size: '4M' });
        const bytes = readFileSync(temp('a.qcow2'));
        bytes.writeUInt32BE(0x77777777, bytes.indexOf(Buffer.from('e2792aca', 'hex')));
        writeFileSync(temp('a.qcow2'), bytes);
      };

      it('chooses by name and bytes, as for a disk that a request names', async () => {
        for (const [name, format] of [
          ['b.raw', 'raw'],
          ['b', 'raw'],
          ['b.qcow2', 'qcow2'],
          ['c', 'qcow2'],
        ] as const) {
          await createImage(temp(name), { format, size: '4M' });
          await put(name);
          assert.deepEqual(await outline('a.qcow2', 'qcow2'), { qcow2: 'a.qcow2', backing: { [format]: name } });
        }
      });

      it('refuses a raw disk whose guest has written the magic of an image', async () => {
        await createImage(temp('b.img'), { format: 'qcow2', backing: { name: 'other.raw', format: 'raw' }, size: '4M' });
        await createImage(temp('other.raw'), { format: 'raw', size: '4M' });
        await put('b.img');
        await assert.rejects(
          open('a.qcow2', 'qcow2'),
          failsWith(
            'FormatUnsupported',
            /a\.qcow2: does not state the format of its backing file; run qemu-img rebase -u -F FORMAT -b b\.img .*a\.qcow2 \(.*b\.img: is named like a raw disk/,
          ),
        );
        await fs.rename(temp('b.img'), temp('b'));
        await put('b');
        await assert.rejects(
          open('a.qcow2', 'qcow2'),
          failsWith('FormatUnsupported', /b: looks like a qcow2 image that refers to other files/),
        );
        await fs.rename(temp('b'), temp('disk.img'));
        await put('disk.img');
        assert.deepEqual(await outline('a.qcow2', 'qcow2'), { qcow2: 'a.qcow2', backing: { raw: 'disk.img' } });
      });
    });

    it('is refused as a guess when it refers to other files', async () => {
      await createImage(temp('b.raw'), { format: 'raw', size: '4M' });
      await createImage(temp('disk'), { format: 'qcow2', size: '4M' });
      await (await open('disk', 'qcow2', true))[Symbol.asyncDispose]();
      await createImage(temp('disk'), { format: 'qcow2', backing: { name: 'b.raw', format: 'raw' } });
      await assert.rejects(open('disk', 'qcow2', true), failsWith('FormatUnsupported', /refers to other files.*state its format/));
    });

    it('is refused when it is encrypted or known to be corrupt', async () => {
      await createImage(temp('a.qcow2'), { format: 'qcow2', size: '4M' });
      const bytes = readFileSync(temp('a.qcow2'));
      bytes.writeUInt32BE(1, 32);
      writeFileSync(temp('a.qcow2'), bytes);
      await assert.rejects(open('a.qcow2', 'qcow2'), failsWith('FormatUnsupported', /is encrypted/));
      bytes.writeUInt32BE(0, 32);
      bytes.writeUInt32BE(2, 76);
      writeFileSync(temp('a.qcow2'), bytes);
      await assert.rejects(open('a.qcow2', 'qcow2'), failsWith('FormatUnsupported', /corrupt; qemu-img check -r all/));
    });
  });

  describe('VMDK', () => {
    const create = (name: string, subformat: string, size = '5G') =>
      createImage(temp(name), { format: 'vmdk', options: [`subformat=${subformat}`], size });
    const part = (name: string, kind: 'flat' | 'sparse', sizeBytes: number) => ({
      kind,
      file: { [kind === 'flat' ? 'raw' : 'vmdk']: name },
      ...(kind === 'flat' ? { offsetBytes: 0 } : {}),
      sizeBytes,
    });

    it('is a descriptor and its extents', async () => {
      await create('a.vmdk', 'monolithicFlat');
      assert.deepEqual(await outline('a.vmdk', 'vmdk'), { vmdk: 'a.vmdk', extents: [part('a-flat.vmdk', 'flat', 5 * GIB)] });
      for (const [name, subformat, letter, kind] of [
        ['b', 'twoGbMaxExtentSparse', 's', 'sparse'],
        ['c', 'twoGbMaxExtentFlat', 'f', 'flat'],
      ] as const) {
        await create(`${name}.vmdk`, subformat);
        const extents = [2, 2, 1].map((gib, index) => part(`${name}-${letter}00${index + 1}.vmdk`, kind, gib * GIB));
        assert.deepEqual(await outline(`${name}.vmdk`, 'vmdk'), { vmdk: `${name}.vmdk`, extents });
      }
    });

    it('is not one of its extents', async () => {
      await create('a.vmdk', 'twoGbMaxExtentSparse');
      await assert.rejects(open('a-s001.vmdk', 'vmdk'), failsWith('FormatUnsupported', /is a part of a VMDK/));
    });

    it('is refused when a part of it is missing or short', async () => {
      await create('a.vmdk', 'twoGbMaxExtentSparse');
      const short = readFileSync(temp('a-s003.vmdk'));
      await fs.rm(temp('a-s002.vmdk'));
      await assert.rejects(open('a.vmdk', 'vmdk'), failsWith('SourceNotFound', /a\.vmdk: its extent "a-s002\.vmdk": .*no such disk image/));
      writeFileSync(temp('a-s002.vmdk'), short);
      await assert.rejects(open('a.vmdk', 'vmdk'), failsWith('FormatUnsupported', /a-s002\.vmdk is not as long as it says/));
      await create('b.vmdk', 'monolithicFlat', '4M');
      await fs.truncate(temp('b-flat.vmdk'), 4 * MIB - 1);
      await assert.rejects(open('b.vmdk', 'vmdk'), failsWith('FormatUnsupported', /b-flat\.vmdk is not as long as it says/));
    });

    it('has extents of zeros, and several extents in one file', async () => {
      writeFileSync(temp('data'), Buffer.alloc(2 * MIB));
      const lines = ['RW 2048 FLAT "data" 0', 'RW 100 ZERO', 'RDONLY 1024 VMFS "data" 3072'];
      writeFileSync(temp('a.vmdk'), ['# Disk DescriptorFile', 'version=1', 'CID=1', 'parentCID=FFFFFFFF', ...lines].join('\r\n'));
      assert.deepEqual(await outline('a.vmdk', 'vmdk'), {
        vmdk: 'a.vmdk',
        extents: [
          { ...part('data', 'flat', MIB), offsetBytes: 0 },
          { kind: 'zero', sizeBytes: 51_200 },
          { ...part('data', 'flat', MIB / 2), offsetBytes: 1.5 * MIB },
        ],
      });
    });

    it('has a parent, which must not have changed', async () => {
      await create('base.vmdk', 'monolithicSparse', '4M');
      await createImage(temp('top.vmdk'), { format: 'vmdk', backing: { name: 'base.vmdk', format: 'vmdk' } });
      assert.deepEqual(await outline('top.vmdk', 'vmdk'), { vmdk: 'top.vmdk', backing: { vmdk: 'base.vmdk' } });
      await create('base.vmdk', 'monolithicSparse', '4M');
      await assert.rejects(open('top.vmdk', 'vmdk'), failsWith('FormatUnsupported', /parent .*base\.vmdk has been written to since/));
    });

    it('has no parent in several files, and no several files when it has a parent', async () => {
      await create('base.vmdk', 'monolithicFlat', '4M');
      await createImage(temp('top.vmdk'), { format: 'vmdk', backing: { name: 'base.vmdk', format: 'vmdk' } });
      await assert.rejects(open('top.vmdk', 'vmdk'), failsWith('FormatUnsupported', /its parent is a VMDK in several files/));
      const options = ['subformat=twoGbMaxExtentSparse'];
      await create('one.vmdk', 'monolithicSparse', '4M');
      await createImage(temp('two.vmdk'), { format: 'vmdk', options, backing: { name: 'one.vmdk', format: 'vmdk' } });
      await assert.rejects(open('two.vmdk', 'vmdk'), failsWith('FormatUnsupported', /snapshot in several files/));
    });
  });

  it('is refused as a VHDX with a sector size that QEMU does not support', async () => {
    await createImage(temp('a.vhdx'), { format: 'vhdx', size: '4M' });
    const bytes = readFileSync(temp('a.vhdx'));
    const metadataAt = bytes.indexOf('metadata', 256 * 1024);
    const entryAt = bytes.indexOf(Buffer.from('1dbf41816fa90947ba47f233a8faab5f', 'hex'), metadataAt);
    bytes.writeUInt32LE(4096, metadataAt + bytes.readUInt32LE(entryAt + 16));
    writeFileSync(temp('a.vhdx'), bytes);
    await assert.rejects(
      open('a.vhdx', 'vhdx'),
      failsWith('FormatUnsupported', /a\.vhdx: its disk has logical sectors of 4096 bytes.*512/),
    );
  });

  describe('that has a parent is refused', () => {
    it('as VDI', async () => {
      for (const [at, value] of [
        [0x4c, 4],
        [0x1a8, 1],
        [0x1b8 + 12, 1],
      ] as const) {
        await createImage(temp('a.vdi'), { format: 'vdi', size: '4M' });
        const bytes = readFileSync(temp('a.vdi'));
        bytes.writeUInt32LE(value, at);
        writeFileSync(temp('a.vdi'), bytes);
        await assert.rejects(open('a.vdi', 'vdi'), failsWith('FormatUnsupported', /differencing VDI/));
      }
    });

    it('as VHD; and a VHD whose first and last sectors differ', async () => {
      await createImage(temp('a.vhd'), { format: 'vpc', size: '4M' });
      const bytes = readFileSync(temp('a.vhd'));
      const footerAt = bytes.length - 512;
      for (const [headType, footerType, message] of [
        [4, 4, /differencing VHD/],
        [3, 4, /differencing VHD/],
        [4, 3, /differencing VHD/],
        [3, 2, /make no VHD/],
        [2, 2, /make no VHD/],
      ] as const) {
        bytes.writeUInt32BE(headType, 60);
        bytes.writeUInt32BE(footerType, footerAt + 60);
        writeFileSync(temp('a.vhd'), bytes);
        await assert.rejects(open('a.vhd', 'vpc'), failsWith('FormatUnsupported', message));
      }
    });

    it('as VHDX', async () => {
      await createImage(temp('a.vhdx'), { format: 'vhdx', size: '4M' });
      const fresh = readFileSync(temp('a.vhdx'));
      const metadataAt = fresh.indexOf('metadata', 256 * 1024);
      const flags = Buffer.from(fresh);
      // File parameters are the first item that QEMU writes, 64 KiB into the region.
      flags.writeUInt32LE(flags.readUInt32LE(metadataAt + 65_536 + 4) | 2, metadataAt + 65_536 + 4);
      const locator = Buffer.from(fresh);
      const count = locator.readUInt16LE(metadataAt + 10);
      locator.writeUInt16LE(count + 1, metadataAt + 10);
      locator.write('2d5fd3a80bb34d45abf7d3d84834ab0c', metadataAt + 32 + count * 32, 'hex');
      for (const bytes of [flags, locator]) {
        writeFileSync(temp('a.vhdx'), bytes);
        await assert.rejects(open('a.vhdx', 'vhdx'), failsWith('FormatUnsupported', /differencing VHDX/));
      }
    });
  });
});
