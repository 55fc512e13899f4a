import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { chooseFormat } from '../../../src/sources/choose-format.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

/** What a guest may write to the beginning of its raw disk. */
const MAGICS = {
  qcow2: 'QFI\xfb',
  vmdk: '# Disk DescriptorFile\n',
  vhdx: 'vhdxfile',
  vdi: `${'\0'.repeat(64)}\x7f\x10\xda\xbe`,
  vpc: 'conectix',
};

describe('the format that nobody has stated', () => {
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
    it(`is ${format} of what qemu-img has made: ${[name, ...options].join(' ')}`, async () => {
      await createImage(temp(name), { format, options, size: '4M' });
      assert.deepEqual(await choose(name), { format, isGuess: false });
    });

  for (const [format, magic] of Object.entries(MAGICS)) {
    it(`is raw in disk.img and guessed where the name says nothing, when it begins like ${format}`, async () => {
      put('disk.img', magic);
      assert.deepEqual(await choose('disk.img'), { format: 'raw', isGuess: false });
      put('disk', magic);
      assert.deepEqual(await choose('disk'), { format, isGuess: true });
    });

    it(`is not told of a raw disk that begins like ${format}`, async () => {
      for (const name of ['a.raw', 'b.IMG', 'c-flat.vmdk']) {
        put(name, magic);
        await assert.rejects(choose(name), failsWith('FormatUnsupported', /its guest may have written; state its format/));
      }
    });

    it(`is not told of another name that begins like ${format}`, async () => {
      for (const [extension, own] of Object.entries({ qcow2: 'qcow2', vmdk: 'vmdk', vhdx: 'vhdx', vdi: 'vdi', vhd: 'vpc' })) {
        if (own === format) continue;
        put(`a.${extension}`, magic);
        await assert.rejects(choose(`a.${extension}`), failsWith('FormatUnsupported', /is named like a .* image and is none/));
      }
    });
  }

  it('is raw without any sign', async () => {
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

  it('is nothing where the name promises what is not there', async () => {
    for (const name of ['a.qcow2', 'a.vmdk', 'a.vhdx', 'a.vdi', 'a.vhd', 'a.vpc']) {
      put(name, 'raw');
      await assert.rejects(choose(name), failsWith('FormatUnsupported', /is named like/));
      writeFileSync(temp(name), '');
      await assert.rejects(choose(name), failsWith('FormatUnsupported', /is named like/));
    }
  });

  it('is that of no disk where a file is named like a part of a VMDK: the message names the file of the whole', async () => {
    for (const part of ['a-f001.vmdk', 'a-s00001.vmdk', 'a-ctk.vmdk', 'a-000001-sesparse.vmdk', 'a-rdmp.vmdk', 'a-pt.vmdk']) {
      put(part, 'raw');
      const whole = part.includes('000001-s') ? 'a-000001.vmdk' : 'a.vmdk';
      await assert.rejects(choose(part), failsWith('FormatUnsupported', new RegExp(`is named like a part of a VMDK.*; name ${whole}$`)));
    }
  });

  it('is VMDK of a descriptor whose first line is in any case, behind a blank line or a byte order mark', async () => {
    for (const text of ['\n# Disk DescriptorFile\n', '# disk descriptorfile\r\n', '\xef\xbb\xbf#Disk DescriptorFile\n']) {
      put('a.vmdk', text);
      assert.deepEqual(await choose('a.vmdk'), { format: 'vmdk', isGuess: false });
    }
  });

  it('is VHD by its end only where the name says so: a raw disk may end in anything', async () => {
    await createImage(temp('a.vhd'), { format: 'vpc', options: ['subformat=fixed'], size: '4M' });
    const bytes = readFileSync(temp('a.vhd'));
    for (const name of ['a.img', 'b.raw', 'c']) {
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
