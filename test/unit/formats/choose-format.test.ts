import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { chooseFormat } from '../../../src/formats/choose-format.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

/** Magics that a guest may write to the beginning of its raw disk. */
const MAGICS = {
  qcow2: 'QFI\xfb',
  vmdk: '# Disk DescriptorFile\n',
  vhdx: 'vhdxfile',
  vdi: `${'\0'.repeat(64)}\x7f\x10\xda\xbe`,
  vpc: 'conectix',
};

describe('a format that is not stated', () => {
  const temp = useTempDir();

  async function choose(name: string) {
    await using handle = await fs.open(temp(name));
    return await chooseFormat({ handle, name: temp(name) });
  }
  const put = (name: string, content: string) => writeFileSync(temp(name), content.padEnd(4096, '\0'), 'latin1');

  for (const [name, format, ...options] of [
    ['a.qcow2', 'qcow2'],
    ['a.vmdk', 'vmdk', 'subformat=monolithicSparse'],
    ['b.vmdk', 'vmdk', 'subformat=monolithicFlat'],
    ['c.vmdk', 'vmdk', 'subformat=twoGbMaxExtentSparse'],
    ['d.vmdk', 'vmdk', 'subformat=twoGbMaxExtentFlat'],
    ['e.vmdk', 'vmdk', 'subformat=streamOptimized'],
    ['a.vhdx', 'vhdx', 'subformat=dynamic'],
    ['b.vhdx', 'vhdx', 'subformat=fixed'],
    ['a.vhd', 'vpc', 'subformat=dynamic'],
    ['b.vhd', 'vpc', 'subformat=fixed'],
    ['c.vpc', 'vpc', 'subformat=fixed'],
    ['a.VDI', 'vdi'],
    ['a.raw', 'raw'],
    ['a.IMG', 'raw'],
  ] as const)
    it(`is ${format} for an image of qemu-img: ${[name, ...options].join(' ')}`, async () => {
      await createImage(temp(name), { format, options, size: '4M' });
      assert.deepEqual(await choose(name), { format, isGuess: false });
    });

  for (const [format, magic] of Object.entries(MAGICS)) {
    it(`is raw for disk.img and a guess for a name without an extension, when the file begins like ${format}`, async () => {
      put('disk.img', magic);
      assert.deepEqual(await choose('disk.img'), { format: 'raw', isGuess: false });
      put('disk', magic);
      assert.deepEqual(await choose('disk'), { format, isGuess: true });
    });

    it(`is refused for a file that is named raw and begins like ${format}`, async () => {
      for (const name of ['a.raw', 'b.IMG', 'c-flat.vmdk']) {
        put(name, magic);
        await assert.rejects(choose(name), failsWith('FormatUnsupported', /its guest may have written; state its format/));
      }
    });

    it(`is refused for a file that is named like another format and begins like ${format}`, async () => {
      for (const [extension, own] of Object.entries({ qcow2: 'qcow2', vmdk: 'vmdk', vhdx: 'vhdx', vdi: 'vdi', vhd: 'vpc' })) {
        if (own === format) continue;
        put(`a.${extension}`, magic);
        await assert.rejects(choose(`a.${extension}`), failsWith('FormatUnsupported', /is named like a .* image and is none/));
      }
    });
  }

  it('is raw for a file without any mark', async () => {
    for (const [name, content] of [
      ['short', 'QFI'],
      ['a.raw', ''],
      ['b', ''],
      ['c.img', '\0'],
    ] as const) {
      writeFileSync(temp(name), content);
      assert.deepEqual(await choose(name), { format: 'raw', isGuess: false });
    }
  });

  it('is refused for a name whose format the bytes lack', async () => {
    for (const name of ['a.qcow2', 'a.vmdk', 'a.vhdx', 'a.vdi', 'a.vhd', 'a.vpc']) {
      put(name, 'raw');
      await assert.rejects(choose(name), failsWith('FormatUnsupported', /is named like/));
      writeFileSync(temp(name), '');
      await assert.rejects(choose(name), failsWith('FormatUnsupported', /is named like/));
    }
  });

  it('is refused for a file that is named like a part of a VMDK, and the message names the descriptor', async () => {
    for (const part of ['a-f001.vmdk', 'a-s00001.vmdk', 'a-ctk.vmdk', 'a-000001-sesparse.vmdk', 'a-rdmp.vmdk', 'a-pt.vmdk']) {
      put(part, 'raw');
      const whole = part.includes('000001-s') ? 'a-000001.vmdk' : 'a.vmdk';
      await assert.rejects(choose(part), failsWith('FormatUnsupported', new RegExp(`is named like a part of a VMDK.*; name ${whole}$`)));
    }
  });

  it('is VMDK for a descriptor whose first line is in any case, after a blank line or a byte order mark', async () => {
    for (const text of ['\n# Disk DescriptorFile\n', '# disk descriptorfile\r\n', '\xef\xbb\xbf#Disk DescriptorFile\n']) {
      put('a.vmdk', text);
      assert.deepEqual(await choose('a.vmdk'), { format: 'vmdk', isGuess: false });
    }
  });

  it('is refused for a whole fixed VHD without an extension', async () => {
    await createImage(temp('disk'), { format: 'vpc', options: ['subformat=fixed'], size: '4M' });
    await assert.rejects(choose('disk'), failsWith('FormatUnsupported', /disk: ends like a VHD, .* state its format, VPC or Raw/));
    // A raw disk may end in the same word.
    const bytes = readFileSync(temp('disk'));
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 512 + 70) ^ 1, bytes.length - 512 + 70);
    writeFileSync(temp('disk'), bytes);
    assert.deepEqual(await choose('disk'), { format: 'raw', isGuess: false });
  });

  describe('for an unreadable file', () => {
    const WRITERS: Readonly<Record<string, { script: string; what: RegExp }>> = {
      gz: { script: 'import gzip; out.write(gzip.compress(disk))', what: /a gzip file.*unpack it first/ },
      xz: { script: 'import lzma; out.write(lzma.compress(disk))', what: /an xz file.*unpack it first/ },
      bz2: { script: 'import bz2; out.write(bz2.compress(disk))', what: /a bzip2 file.*unpack it first/ },
      zip: { script: 'import zipfile; zipfile.ZipFile(out, "w").writestr("disk.raw", disk)', what: /a zip archive.*unpack it first/ },
      ova: { script: 'import tarfile; tarfile.open(fileobj=out, mode="w").add("disk.raw"); out.write(bytes(1024))', what: /tar archive/ },
      tar: { script: 'import tarfile; tarfile.open(fileobj=out, mode="w").add("disk.raw"); out.write(bytes(1024))', what: /tar archive/ },
      qed: { script: 'qed', what: /a QED image.*qemu-img convert/ },
      hds: { script: 'parallels', what: /a Parallels image.*qemu-img convert/ },
    };

    async function make(extension: string, { script }: { script: string }): Promise<void> {
      writeFileSync(temp('disk.raw'), Buffer.alloc(4096, 'disk'));
      if (!script.includes(' ')) return createImage(temp(`a.${extension}`), { format: script, size: '4M' });
      const lines = ['import sys', 'disk = open("disk.raw", "rb").read()', 'out = open(sys.argv[1], "wb")', script];
      const { code, stderr } = await runCommand('python3', ['-c', lines.join('\n'), `a.${extension}`], { cwd: temp('') });
      assert.equal(code, 0, stderr.toString());
    }

    for (const [extension, writer] of Object.entries(WRITERS))
      it(`is refused by the name, by the bytes, and by both: ${extension}`, async () => {
        await make(extension, writer);
        await assert.rejects(choose(`a.${extension}`), failsWith('FormatUnsupported', /is named like .*, or state the format Raw/));
        await assert.rejects(choose(`a.${extension}`), failsWith('FormatUnsupported', writer.what));
        for (const name of ['b', 'b.img', 'b.raw', 'b.1']) {
          await fs.copyFile(temp(`a.${extension}`), temp(name));
          await assert.rejects(choose(name), failsWith('FormatUnsupported', writer.what));
          await assert.rejects(choose(name), failsWith('FormatUnsupported', /b[^:]*: begins like .*, or state the format Raw/));
        }
        await fs.copyFile(temp(`a.${extension}`), temp('b.qcow2'));
        await assert.rejects(choose('b.qcow2'), failsWith('FormatUnsupported', /is named like a qcow2 image and is none/));
        await fs.copyFile(temp(`a.${extension}`), temp('disk.img'));
        assert.deepEqual(await choose('disk.img'), { format: 'raw', isGuess: false });
        await fs.copyFile(temp('disk.raw'), temp(`raw.${extension}`));
        await assert.rejects(choose(`raw.${extension}`), failsWith('FormatUnsupported', /is named like/));
      });
  });

  it('is refused for a checkpoint of Hyper-V, with the advice to merge it', async () => {
    await createImage(temp('a.vhdx'), { format: 'vhdx', size: '4M' });
    await fs.copyFile(temp('a.vhdx'), temp('a_5D2A.avhdx'));
    await assert.rejects(
      choose('a_5D2A.avhdx'),
      failsWith('FormatUnsupported', /is named like a checkpoint of Hyper-V.*merge it into its parent/),
    );
  });

  it('is VHD by the footer only for a name of a VHD, because a raw disk may end in any bytes', async () => {
    await createImage(temp('a.vhd'), { format: 'vpc', options: ['subformat=fixed'], size: '4M' });
    const bytes = readFileSync(temp('a.vhd'));
    for (const name of ['a.img', 'b.raw']) {
      writeFileSync(temp(name), bytes);
      assert.deepEqual(await choose(name), { format: 'raw', isGuess: false });
    }
    // Its first sector is the guest's.
    bytes.write('QFI\xfb', 'latin1');
    writeFileSync(temp('a.vhd'), bytes);
    assert.deepEqual(await choose('a.vhd'), { format: 'vpc', isGuess: false });
    writeFileSync(temp('a.vhd'), bytes.subarray(0, -1));
    assert.deepEqual(await choose('a.vhd'), { format: 'vpc', isGuess: false });
  });
});
