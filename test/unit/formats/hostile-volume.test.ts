/**
 * Volumes that somebody has filled in order to read what is not on them. Nothing outside is opened, not even to look at
 * it.
 */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { DiskliftError, type ErrorCode } from '../../../src/common/errors.ts';
import type { DiskFormat } from '../../../src/formats/formats.ts';
import { type Libc, loadLibc } from '../../../src/native/libc.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { openTree } from '../../helpers/image-tree.ts';
import { openNames, watchOpenedPaths } from '../../helpers/opened-paths.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const SECRET = 'what lies outside of the volume';
const PASSWORD = 'hunter2';

const WAYS: Record<string, Libc | undefined> = { 'by openat2': loadLibc(), 'step by step': undefined };

/** Names that lead out, or to what is no regular file. `%` stands for the directory that the volume lies in. */
const HOSTILE_NAMES: readonly (readonly [name: string, code: ErrorCode, message: RegExp])[] = [
  ['%/outside/secret.raw', 'InvalidRequest', /an absolute path/],
  ['/etc/shadow', 'InvalidRequest', /an absolute path/],
  ['//etc/shadow', 'InvalidRequest', /an absolute path/],
  ['%/volume', 'InvalidRequest', /an absolute path/],
  ['%/volume-beside/secret.raw', 'InvalidRequest', /an absolute path/],
  ['%/outside/../volume/inside.raw', 'InvalidRequest', /an absolute path/],
  ['%/volume/', 'InvalidRequest', /is a directory/],
  ['%/volume/folder', 'InvalidRequest', /is a directory/],
  ['%/volume/../outside/secret.raw', 'InvalidRequest', /leaves the volume/],
  ['%//volume/.//../outside/secret.raw', 'InvalidRequest', /leaves the volume/],
  ['%/volume/link-out.raw', 'InvalidRequest', /symbolic link/],
  ['%/volume/link-folder/secret.raw', 'InvalidRequest', /symbolic link/],
  ['%/volume/nothing.raw', 'SourceNotFound', /no such disk image/],
  ['../outside/secret.raw', 'InvalidRequest', /leaves the volume/],
  ['folder/../../outside/secret.raw', 'InvalidRequest', /leaves the volume/],
  ['..', 'InvalidRequest', /leaves the volume/],
  ['.', 'InvalidRequest', /is a directory/],
  ['folder', 'InvalidRequest', /is a directory/],
  ['folder/', 'InvalidRequest', /is a directory/],
  ['link-out.raw', 'InvalidRequest', /symbolic link/],
  ['link-in.raw', 'InvalidRequest', /symbolic link/],
  ['link-to-zero', 'InvalidRequest', /symbolic link/],
  ['link-folder/secret.raw', 'InvalidRequest', /symbolic link/],
  ['link-descriptor', 'InvalidRequest', /symbolic link/],
  ['fifo', 'InvalidRequest', /is a FIFO/],
  ['nothing.raw', 'SourceNotFound', /no such disk image/],
  ['file:/etc/shadow', 'InvalidRequest', /"file:…", which is no file on the volume/],
  ['file:inside.raw', 'InvalidRequest', /"file:…"/],
  [`nbd://user:${PASSWORD}@127.0.0.1/x`, 'InvalidRequest', /"nbd:…"/],
  [`https://user:${PASSWORD}@example.org/x`, 'InvalidRequest', /"https:…"/],
  [`json:{"driver":"file","filename":"/etc/shadow","x":"${PASSWORD}"}`, 'InvalidRequest', /"json:…"/],
  ['host_device:/dev/sda', 'InvalidRequest', /"host_device:…"/],
  ['fat:folder', 'InvalidRequest', /"fat:…"/],
  ['\\\\.\\PhysicalDrive0', 'SourceNotFound', /./],
  ['C:\\secret.vmdk', 'InvalidRequest', /"C:…"/],
  ['inside.raw\nforged line', 'InvalidRequest', /control characters/],
  ['x'.repeat(300), 'InvalidRequest', /longer than a file's name/],
  [`${'folder/'.repeat(80)}x`, 'SourceNotFound', /no such disk image/],
];

describe('a hostile volume', () => {
  const temp = useTempDir();

  beforeEach(async () => {
    mkdirSync(temp('volume/folder'), { recursive: true });
    for (const name of ['outside', 'volume-beside']) mkdirSync(temp(name));
    for (const name of ['outside/secret.raw', 'volume-beside/secret.raw', 'volume/inside.raw'])
      writeFileSync(temp(name), SECRET.padEnd(1_048_576, '\0'));
    symlinkSync('../outside/secret.raw', temp('volume/link-out.raw'));
    symlinkSync('inside.raw', temp('volume/link-in.raw'));
    symlinkSync('../outside', temp('volume/link-folder'));
    symlinkSync('/dev/zero', temp('volume/link-to-zero'));
    symlinkSync('/proc/self/fd/0', temp('volume/link-descriptor'));
    await runCommand('mkfifo', [temp('volume/fifo')]);
  });

  /** @returns the error; asserts that nothing but files on the volume has been opened, and nothing is left open */
  async function refused(libc: Libc | undefined, relativePath: string, format: DiskFormat): Promise<DiskliftError> {
    const watch = watchOpenedPaths(libc);
    try {
      const tree = await openTree({ volumePath: temp('volume'), relativePath, format, libc: watch.libc });
      await tree[Symbol.asyncDispose]();
      assert.fail(`${relativePath} was opened`);
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      assert.ok(watch.paths.length > 0);
      for (const path of watch.paths) assert.ok(path === temp('volume') || path.startsWith(temp('volume/')), `opened ${path}`);
      assert.deepEqual(await openNames(temp('')), []);
      assert.match(error.message, new RegExp(relativePath.replace('.', '\\.')));
      assert.doesNotMatch(error.message, new RegExp(`${PASSWORD}|\n`));
      return error;
    } finally {
      watch.stop();
    }
  }

  it('is watched by a test that sees every opened file', async () => {
    await createImage(temp('volume/a.qcow2'), { format: 'qcow2', backing: { name: 'inside.raw', format: 'raw' } });
    for (const libc of Object.values(WAYS)) {
      const watch = watchOpenedPaths(libc);
      try {
        await using _tree = await openTree({ volumePath: temp('volume'), relativePath: 'a.qcow2', format: 'qcow2', libc: watch.libc });
        for (const name of ['volume', 'volume/a.qcow2', 'volume/inside.raw']) assert.ok(watch.paths.includes(temp(name)), name);
      } finally {
        watch.stop();
      }
    }
  });

  for (const [way, libc] of Object.entries(WAYS))
    describe(way, () => {
      for (const [pattern, code, message] of HOSTILE_NAMES)
        it(`names ${JSON.stringify(pattern.slice(0, 70))}`, async () => {
          const name = pattern.replace('%', temp('').replace(/\/$/, ''));
          const isRefused = failsWith(code, message);

          await createImage(temp('volume/backing.qcow2'), { format: 'qcow2', backing: { name: 'BACKING', format: 'raw' }, size: '1M' });
          writeFileSync(temp('volume/backing.qcow2'), withBackingFile(readFileSync(temp('volume/backing.qcow2')), name));
          const backing = await refused(libc, 'backing.qcow2', 'qcow2');
          assert.ok(isRefused(backing), `${backing}`);
          assert.match(backing.message, /backing\.qcow2: its backing file/);

          const data = Buffer.alloc(65_536);
          readFileSync(temp('volume/backing.qcow2')).copy(data, 0, 0, 112);
          data.fill(0, 8, 20); // no backing file
          data.writeUInt32BE(4, 76);
          data.writeUInt32BE(0x44415441, 112);
          data.writeUInt32BE(Buffer.byteLength(name), 116);
          data.write(name, 120);
          writeFileSync(temp('volume/data.qcow2'), data);
          const dataFile = await refused(libc, 'data.qcow2', 'qcow2');
          assert.ok(isRefused(dataFile), `${dataFile}`);

          if (name.includes('"') || name.includes('\n')) return;
          for (const [type, offset] of [
            ['FLAT', ' 0'],
            ['SPARSE', ''],
          ]) {
            writeFileSync(temp('volume/extent.vmdk'), descriptor([`RW 1 ${type} "${name}"${offset}`]));
            const extent = await refused(libc, 'extent.vmdk', 'vmdk');
            assert.ok(isRefused(extent), `${extent}`);
          }
          await createImage(temp('volume/parent.vmdk'), { format: 'vmdk', size: '1M' });
          const parent = readFileSync(temp('volume/parent.vmdk'));
          const extents = ['RW 2048 SPARSE "parent.vmdk"'];
          parent.fill(0, 512, 512 + 20 * 512);
          parent.write(descriptor(extents, 'parentCID=12345678', `parentFileNameHint="${name}"`), 512);
          writeFileSync(temp('volume/parent.vmdk'), parent);
          const child = await refused(libc, 'parent.vmdk', 'vmdk');
          assert.ok(isRefused(child), `${child}`);
        });

      it('has a device on it', async function () {
        if (process.getuid?.() !== 0) this.skip();
        for (const [name, kind, major, minor] of [
          ['zero', 'c', '1', '5'],
          ['loop', 'b', '7', '0'],
        ] as const) {
          await runCommand('mknod', [temp(`volume/${name}`), kind, major, minor]);
          writeFileSync(temp('volume/a.vmdk'), descriptor([`RW 1 FLAT "${name}" 0`]));
          assert.ok(failsWith('InvalidRequest', /is a (character|block) device/)(await refused(libc, 'a.vmdk', 'vmdk')));
        }
      });
    });

  it('has VMDKs that name devices, or extents that only another kind of descriptor may name', async () => {
    for (const line of [
      'RW 1 VMFSRDM "inside.raw"',
      'RW 1 VMFSRAW "inside.raw"',
      'RW 1 SESPARSE "inside.raw"',
      'NOACCESS 1 ZERO',
      'RW 1 FLAT "/dev/sda" 0',
      'RW 0 FLAT "inside.raw" 0',
      'RW 99999999999999999999 FLAT "inside.raw" 0',
      'RW 1 FLAT "inside.raw" 0 more',
      'RW 1 FLAT inside.raw 0',
      'RW 1 FLAT',
      'RW 1 ZERO "inside.raw"',
      'RW 1 SPARSE "inside.raw" 8',
    ]) {
      writeFileSync(temp('volume/a.vmdk'), descriptor([line]));
      const error = await refused(loadLibc(), 'a.vmdk', 'vmdk');
      assert.ok(failsWith(line.includes('/dev') ? 'InvalidRequest' : 'FormatUnsupported', /extent/)(error), `${line}: ${error}`);
    }
  });

  it('has a sparse VMDK without a size, which QEMU would read as a descriptor', async () => {
    await createImage(temp('volume/a.vmdk'), { format: 'vmdk', size: '1M' });
    const bytes = readFileSync(temp('volume/a.vmdk'));
    bytes.writeBigUInt64LE(0n, 12);
    writeFileSync(temp('volume/a.vmdk'), bytes);
    assert.ok(failsWith('FormatUnsupported', /a size of 0/)(await refused(loadLibc(), 'a.vmdk', 'vmdk')));
  });

  it('has a chain of 1,000 backing files', async () => {
    await createImage(temp('volume/0.qcow2'), { format: 'qcow2', backing: { name: '1.qcow2', format: 'qcow2' }, size: '1M' });
    const bytes = readFileSync(temp('volume/0.qcow2'));
    for (let index = 0; index < 1000; index += 1)
      writeFileSync(temp(`volume/${index}.qcow2`), withBackingFile(bytes.subarray(0, 65_536), `${index + 1}.qcow2`));
    const watch = watchOpenedPaths(loadLibc());
    try {
      await assert.rejects(
        openTree({ volumePath: temp('volume'), relativePath: '0.qcow2', format: 'qcow2', libc: watch.libc }),
        failsWith('FormatUnsupported', /63\.qcow2: its backing file "64\.qcow2" would be file 65 of a chain/),
      );
      assert.ok(!watch.paths.includes(temp('volume/64.qcow2')));
    } finally {
      watch.stop();
    }
    assert.deepEqual(await openNames(temp('')), []);
    writeFileSync(temp('volume/63.qcow2'), withBackingFile(bytes.subarray(0, 65_536), undefined));
    await using tree = await openTree({ volumePath: temp('volume'), relativePath: '0.qcow2', format: 'qcow2' });
    assert.equal(tree.files.length, 64);
  });

  it('has images that lead back to themselves', async () => {
    await createImage(temp('volume/a.qcow2'), { format: 'qcow2', backing: { name: 'b.qcow2', format: 'qcow2' }, size: '1M' });
    await createImage(temp('volume/b.qcow2'), { format: 'qcow2', backing: { name: './a.qcow2', format: 'qcow2' }, size: '1M' });
    assert.ok(failsWith('FormatUnsupported', /leads back to itself/)(await refused(loadLibc(), 'a.qcow2', 'qcow2')));
    writeFileSync(temp('volume/c.vmdk'), descriptor(['RW 1 FLAT "c.vmdk" 0']));
    assert.ok(failsWith('FormatUnsupported', /leads back to itself/)(await refused(loadLibc(), 'c.vmdk', 'vmdk')));
    await createImage(temp('volume/d.qcow2'), { format: 'qcow2', backing: { name: 'self', format: 'raw' }, size: '1M' });
    writeFileSync(temp('volume/d.qcow2'), withBackingFile(readFileSync(temp('volume/d.qcow2')), 'd.qcow2'));
    assert.ok(failsWith('FormatUnsupported', /leads back to itself/)(await refused(loadLibc(), 'd.qcow2', 'qcow2')));
  });

  it('has more extents than the limit', async () => {
    writeFileSync(temp('volume/a.vmdk'), descriptor(Array.from({ length: 513 }, () => 'RW 1 FLAT "inside.raw" 0')));
    assert.ok(failsWith('FormatUnsupported', /more than 512 extents/)(await refused(loadLibc(), 'a.vmdk', 'vmdk')));
    writeFileSync(temp('volume/b.vmdk'), descriptor(['#'.repeat(2 ** 20)]));
    assert.ok(failsWith('FormatUnsupported', /descriptor is larger/)(await refused(loadLibc(), 'b.vmdk', 'vmdk')));
  });
});

function descriptor(extents: readonly string[], ...parent: string[]): string {
  return [
    '# Disk DescriptorFile',
    'version=1',
    'CID=fffffffe',
    ...(parent.length === 0 ? ['parentCID=ffffffff'] : parent),
    ...extents,
    '',
  ].join('\n');
}

/** The image with another name behind its extensions, or with none. */
function withBackingFile(image: Buffer, name: string | undefined): Buffer {
  const bytes = Buffer.from(image);
  if (name === undefined) bytes.fill(0, 8, 20);
  else bytes.writeUInt32BE(bytes.write(name, Number(bytes.readBigUInt64BE(8))), 16);
  return bytes;
}
