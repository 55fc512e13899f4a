/** VMDK descriptors as other programs and people write them, in front of disks that qemu-img made. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { openAsRequested, readDisk } from '../../helpers/open-image.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const MIB = 2 ** 20;
const SECTOR = 512;
const SECTORS = (3 * MIB) / SECTOR;

interface Changes {
  head?: string;
  version?: string;
  cid?: string;
  parent?: string;
  more?: string;
  extent?: string;
  end?: string;
}

function describeDisk(changes: Changes = {}): string {
  const { head = '# Disk DescriptorFile', version = 'version=1', cid = 'CID=7e5b80a7', parent = 'parentCID=ffffffff', more = '' } = changes;
  const { extent = `RW ${SECTORS} SPARSE "disk.vmdk"`, end = '#DDB\nddb.adapterType = "ide"' } = changes;
  return [head, version, cid, parent, more, 'createType="monolithicSparse"', extent, end, ''].join('\n');
}

/** Variations that do not affect the disk's bytes. */
const READ: Readonly<Record<string, string | Buffer>> = {
  'with a content id in decimal': describeDisk({ cid: 'CID=3735928559' }),
  'with a content id behind 0x': describeDisk({ cid: 'CID=0x7e5b80a7' }),
  'without a content id of its own': describeDisk({ cid: '' }),
  'with two content ids': describeDisk({ more: 'CID=12345678' }),
  'with a content id that is stated twice': describeDisk({ more: 'CID=7e5b80a7' }),
  'with 0 for the content id of no parent': describeDisk({ parent: 'parentCID=0' }),
  'with the content id of no parent in decimal': describeDisk({ parent: 'parentCID=4294967295' }),
  'with the content id of no parent twice, in either case': describeDisk({ more: 'parentCID=FFFFFFFF' }),
  'with an empty name of a parent, twice': describeDisk({ more: 'parentFileNameHint=""\nparentFileNameHint=""' }),
  'of version 4': describeDisk({ version: 'version=4' }),
  'of no version': describeDisk({ version: '' }),
  'of two versions': describeDisk({ more: 'version=3' }),
  'with fields of the disk database twice': describeDisk({ end: 'ddb.toolsVersion = "1"\nddb.toolsVersion = "2"' }),
  'with an encoding and a name in it that nobody uses': Buffer.from(
    describeDisk({ more: 'encoding="windows-1252"', extent: `RW ${SECTORS} SPARSE "gr\xf6\xdfe.vmdk"` }),
    'latin1',
  ),
  'with a size that the header has in whole grains': describeDisk({ extent: `RW ${SECTORS - 8} SPARSE "disk.vmdk"` }),
  'with an extent that nobody may access': describeDisk({ extent: `NOACCESS ${SECTORS} SPARSE "disk.vmdk"` }),
  'with an extent without a name': describeDisk({ extent: `RW ${SECTORS} SPARSE ""` }),
  'without extents': describeDisk({ extent: '' }),
  'with a byte order mark': `\ufeff${describeDisk()}`,
  'with line ends of Windows and a blank line in front': `\r\n${describeDisk().replaceAll('\n', '\r\n')}`,
};

/** Descriptors that programs read as different disks, or as no disk. */
const REFUSED: Readonly<Record<string, readonly [string | Buffer, RegExp]>> = {
  'of a snapshot that names no parent': [
    describeDisk({ parent: 'parentCID=12345678' }),
    /states parentCID=12345678, as a snapshot does, and names no parent; if it is a whole disk, state parentCID=ffffffff/,
  ],
  'with a parent and the content id of none': [
    describeDisk({ more: 'parentFileNameHint="old.vmdk"' }),
    /names a parent and states no parentCID of one; if it is a whole disk, delete the line parentFileNameHint/,
  ],
  'with two parents': [
    describeDisk({ parent: 'parentCID=1', more: 'parentFileNameHint="a.vmdk"\nparentFileNameHint="b.vmdk"' }),
    /states parentFileNameHint twice, and not the same/,
  ],
  'with two content ids of a parent': [describeDisk({ more: 'parentCID=12345678' }), /states parentCID twice, and not the same/],
  'with a parent in a comment': [describeDisk({ more: '# parentFileNameHint="a.vmdk"' }), /a line with parentFileNameHint that/],
  'with a parent and something behind it': [
    describeDisk({ parent: 'parentCID=1', more: 'parentFileNameHint="a.vmdk" # old' }),
    /a line with parentFileNameHint that/,
  ],
  'without the content id of a parent': [describeDisk({ parent: '' }), /no parentCID that QEMU finds; state parentCID=ffffffff/],
  'with spaces in the content id': [describeDisk({ cid: 'CID = 7e5b80a7' }), /no CID or no parentCID that QEMU finds/],
  'of a smaller disk than the header': [
    describeDisk({ extent: `RW ${SECTORS - 129} SPARSE "disk.vmdk"` }),
    new RegExp(`the header states a disk of ${SECTORS} sectors and the descriptor ${SECTORS - 129}`),
  ],
  'of a larger disk than the header': [describeDisk({ extent: `RW ${SECTORS + 1} SPARSE "disk.vmdk"` }), /contradict each other/],
  'of a disk in another file': [
    describeDisk({ extent: `RW ${SECTORS} FLAT "disk-flat.vmdk" 0` }),
    /the file is sparse, and the descriptor/,
  ],
  'of two files': [describeDisk({ more: `RW ${SECTORS} SPARSE "b.vmdk"` }), /the descriptor lists 2 extents, and the file is one/],
  'of an encrypted disk': [describeDisk({ end: 'encryption.keySafe = "vmware:key"' }), /is encrypted/],
};

describe('the descriptor of a VMDK', () => {
  const temp = useTempDir();

  async function qemuImg(...parameters: string[]): Promise<void> {
    const { code, stderr } = await runCommand('qemu-img', parameters, { cwd: temp('') });
    assert.equal(code, 0, stderr.toString());
  }

  async function putDisk(subformat: string): Promise<void> {
    writeFileSync(temp('disk.raw'), Buffer.concat([randomBytes(200_000), Buffer.alloc(3 * MIB - 200_000)]));
    await qemuImg('convert', '-f', 'raw', '-O', 'vmdk', '-o', `subformat=${subformat}`, 'disk.raw', 'disk.vmdk');
  }

  function putDescriptor(text: string | Buffer): void {
    const file = readFileSync(temp('disk.vmdk'));
    const [at, size] = [Number(file.readBigUInt64LE(28)) * SECTOR, Number(file.readBigUInt64LE(36)) * SECTOR];
    file.fill(0, at, at + size);
    Buffer.from(text as string).copy(file, at);
    writeFileSync(temp('disk.vmdk'), file);
  }

  async function readAll(name: string): Promise<Buffer> {
    const disk = await openAsRequested(temp(name), 'vmdk');
    try {
      return await readDisk(disk);
    } finally {
      await disk.dispose();
    }
  }

  async function assertReadsAsQemuDoes(name: string): Promise<void> {
    const content = await readAll(name);
    await qemuImg('convert', '-f', 'vmdk', '-O', 'raw', name, 'wanted.raw');
    assert.ok(content.equals(readFileSync(temp('wanted.raw'))), 'not the bytes that qemu-img reads');
    assert.ok(content.length >= 3 * MIB);
  }

  const assertRefused = (name: string, why: RegExp) =>
    assert.rejects(openAsRequested(temp(name), 'vmdk'), failsWith('FormatUnsupported', why));

  for (const [which, text] of Object.entries(READ))
    it(`is read as qemu-img reads it ${which}`, async () => {
      for (const subformat of ['monolithicSparse', 'streamOptimized']) {
        await putDisk(subformat);
        putDescriptor(text);
        await assertReadsAsQemuDoes('disk.vmdk');
      }
    });

  for (const [which, [text, why]] of Object.entries(REFUSED))
    it(`is refused ${which}`, async () => {
      await putDisk('monolithicSparse');
      putDescriptor(text);
      await assertRefused('disk.vmdk', why);
    });

  it('in a separate file may have any version and content id, and its first line in any case', async () => {
    await createImage(temp('disk.vmdk'), { format: 'vmdk', options: ['subformat=monolithicFlat'], size: '3M' });
    writeFileSync(temp('disk-flat.vmdk'), randomBytes(3 * MIB));
    const text = readFileSync(temp('disk.vmdk'), 'utf8')
      .replace('version=1', 'version=4')
      .replace(/^CID=.*$/m, 'CID=3735928559\nCID=1');
    writeFileSync(temp('disk.vmdk'), text.replace('# Disk DescriptorFile', '\ufeff# disk descriptorfile'));
    await assertReadsAsQemuDoes('disk.vmdk');
  });

  it('in a separate file may name files in UTF-8', async () => {
    await createImage(temp('disk.vmdk'), { format: 'vmdk', options: ['subformat=monolithicFlat'], size: '3M' });
    const text = readFileSync(temp('disk.vmdk'), 'latin1');
    writeFileSync(temp('disk.vmdk'), text.replace('disk-flat', 'gr\xf6\xdfe-flat'), 'latin1');
    await assert.rejects(
      openAsRequested(temp('disk.vmdk'), 'vmdk'),
      failsWith('InvalidRequest', /which is not in UTF-8; give the file another name/),
    );
    writeFileSync(temp('disk.vmdk'), text.replace(/^RW/m, 'NOACCESS'));
    await assertRefused('disk.vmdk', /lets nobody read \(NOACCESS\); state RW there/);
  });

  it('may state the size of its last extent before it was rounded up to grains, and of no other', async () => {
    await createImage(temp('disk.vmdk'), { format: 'vmdk', options: ['subformat=twoGbMaxExtentSparse'], size: '5G' });
    const text = readFileSync(temp('disk.vmdk'), 'utf8');
    const shorten = (extent: number) => {
      let index = 0;
      const lines = text.split('\n').map((line) => {
        if (!line.startsWith('RW ')) return line;
        index += 1;
        return index === extent ? line.replace(/\d+/, (sectors) => `${Number(sectors) - 8}`) : line;
      });
      writeFileSync(temp('disk.vmdk'), lines.join('\n'));
    };
    shorten(3);
    const disk = await openAsRequested(temp('disk.vmdk'), 'vmdk');
    await disk.dispose();
    assert.equal(disk.sizeBytes, 5 * 2 ** 30);
    shorten(2);
    await assertRefused(
      'disk.vmdk',
      /disk-s002\.vmdk is not as long as it says; it is incomplete or another one, with 2147483648 bytes in place of 2147479552/,
    );
  });

  describe('is named in the error when another file is given', () => {
    for (const [subformat, part] of [
      ['monolithicFlat', 'disk-flat.vmdk'],
      ['twoGbMaxExtentFlat', 'disk-f001.vmdk'],
      ['twoGbMaxExtentSparse', 'disk-s001.vmdk'],
    ] as const)
      it(part, async () => {
        await createImage(temp('disk.vmdk'), { format: 'vmdk', options: [`subformat=${subformat}`], size: '3M' });
        await assertRefused(
          part,
          new RegExp(`; name ${temp('disk.vmdk')}${subformat === 'monolithicFlat' ? ', or state the format raw' : ''}$`),
        );
      });

    it('a snapshot part of VMware', async () => {
      const extent = Buffer.alloc(4096);
      for (const [index, value] of [0x44574f43, 1, 3, 2048, 8, 4, 1].entries()) extent.writeUInt32LE(value, index * 4);
      writeFileSync(temp('disk-000001-delta.vmdk'), extent);
      await assertRefused('disk-000001-delta.vmdk', /is a part of a VMDK, not a disk; name .*\/disk-000001\.vmdk$/);
    });

    it('an OVA', async () => {
      await createImage(temp('disk.vmdk'), { format: 'vmdk', options: ['subformat=streamOptimized'], size: '3M' });
      writeFileSync(temp('disk.ovf'), '<Envelope/>');
      const { code } = await runCommand('tar', ['--format=ustar', '-cf', 'disk.ova', 'disk.ovf', 'disk.vmdk'], { cwd: temp('') });
      assert.equal(code, 0);
      await assertRefused('disk.ova', /is a tar archive, as an OVA is, and no VMDK; unpack it and name the \.vmdk in it/);
    });

    it('a raw disk, which may begin with anything', async () => {
      for (const bytes of [randomBytes(3 * MIB), Buffer.alloc(3 * MIB), Buffer.from('a text\n'.repeat(200_000)), Buffer.alloc(0)]) {
        writeFileSync(temp('raw.vmdk'), bytes);
        await assertRefused('raw.vmdk', /has neither the header of a sparse VMDK nor a descriptor that lists extents; if it is a raw disk/);
      }
      truncateSync(temp('raw.vmdk'), 2);
      await assertRefused('raw.vmdk', /has neither/);
    });
  });
});
