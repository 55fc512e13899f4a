import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { DiskliftError, type ErrorCode } from '../../../src/common/errors.ts';
import { diskPath, findDisks, requireRaw } from '../../../src/sources/volume.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

function failsWith(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof DiskliftError && error.code === code && message.test(error.message);
}

describe('volume', () => {
  const temp = useTempDir();
  const touch = (...names: string[]) => {
    for (const name of names) writeFileSync(temp(name), name);
  };

  describe('its disks', () => {
    it('are disk.img alone where KubeVirt keeps it', async () => {
      touch('disk.img', 'other.img', 'notes.txt');
      assert.deepEqual(await findDisks(temp('')), ['disk.img']);
    });

    it('are all files that are named like disks, in order, and nothing else', async () => {
      touch('b.raw', 'a.img', 'c.qcow2', 'd.VMDK', 'notes.txt', 'img');
      mkdirSync(temp('lost+found'));
      mkdirSync(temp('e.img'));
      symlinkSync('/etc/hostname', temp('f.img'));
      assert.deepEqual(await findDisks(temp('')), ['a.img', 'b.raw', 'c.qcow2', 'd.VMDK']);
    });

    it('are missed when there are none, or no volume', async () => {
      await assert.rejects(findDisks(temp('')), failsWith('SourceNotFound', /no disk on the volume/));
      await assert.rejects(findDisks(temp('nowhere')), failsWith('SourceNotFound', /nowhere: not found/));
    });
  });

  describe('the path of a disk', () => {
    it('lies beneath the volume, however deep', async () => {
      mkdirSync(temp('vms/fedora'), { recursive: true });
      touch('vms/fedora/root.img');
      assert.equal(await diskPath(temp(''), 'vms/fedora/root.img'), temp('vms/fedora/root.img'));
      assert.equal(await diskPath(temp(''), '.'), temp(''));
    });

    for (const name of ['', '/etc/shadow', '../x', 'a/../../x', './x', 'a//b', '..', 'a\0b'])
      it(`is not ${JSON.stringify(name)}`, async () => {
        await assert.rejects(diskPath(temp(''), name), failsWith('InvalidRequest', /not a path beneath the volume/));
      });

    it('follows no symbolic link, be it to the disk or on the way', async () => {
      mkdirSync(temp('real'));
      touch('real/disk.img');
      symlinkSync('real/disk.img', temp('link.img'));
      symlinkSync('real', temp('folder'));
      await assert.rejects(diskPath(temp(''), 'link.img'), failsWith('InvalidRequest', /link\.img: is a symbolic link/));
      await assert.rejects(diskPath(temp(''), 'folder/disk.img'), failsWith('InvalidRequest', /folder: is a symbolic link/));
    });

    it('names a disk that is not there', async () => {
      await assert.rejects(diskPath(temp(''), 'gone.img'), failsWith('SourceNotFound', /gone\.img: not found/));
    });
  });

  describe('format Auto', () => {
    it('takes for raw what is named so', async () => {
      touch('a.img', 'b.raw', 'c');
      for (const name of ['a.img', 'b.raw', 'c']) await requireRaw(temp(name), name);
    });

    it('takes disk.img for raw whatever its guest has written into it', async () => {
      writeFileSync(temp('disk.img'), Buffer.from('QFI\xfb', 'latin1'));
      await requireRaw(temp('disk.img'), 'disk.img');
    });

    it('refuses what is not raw, by its name or its first bytes', async () => {
      touch('a.qcow2', 'b.vhdx');
      writeFileSync(temp('c.img'), Buffer.from('QFI\xfb and more', 'latin1'));
      for (const name of ['a.qcow2', 'b.vhdx', 'c.img'])
        await assert.rejects(requireRaw(temp(name), name), failsWith('FormatUnsupported', /not a raw disk/));
    });
  });
});
