import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { findDisks } from '../../../src/sources/volume.ts';
import { failsWith } from '../../helpers/failure.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

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

    it('are a VMDK without its parts, where it is there', async () => {
      touch('a.vmdk', 'a-flat.vmdk', 'b.vmdk', 'b-s001.vmdk', 'b-s002.vmdk', 'c-flat.vmdk', 'd-0.vmdk', 'D-f001.vmdk');
      assert.deepEqual(await findDisks(temp('')), ['D-f001.vmdk', 'a.vmdk', 'b.vmdk', 'c-flat.vmdk', 'd-0.vmdk']);
    });

    it('are missed when there are none, or no volume', async () => {
      await assert.rejects(findDisks(temp('')), failsWith('SourceNotFound', /no disk on the volume/));
      await assert.rejects(findDisks(temp('nowhere')), failsWith('SourceNotFound', /nowhere: not found/));
    });
  });
});
