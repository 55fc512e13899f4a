import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { lookAtVolume } from '../../../src/formats/find-disks.ts';
import { loadLibc } from '../../../src/native/libc.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('volume', () => {
  const temp = useTempDir();
  const touch = (...names: string[]) => {
    for (const name of names) writeFileSync(temp(name), name);
  };

  describe('its disks', () => {
    const findDisks = async (volume: string) => (await lookAtVolume(volume, undefined)).disks;

    it('are disk.img alone on a volume of KubeVirt', async () => {
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

    it('are the descriptor of a VMDK without its parts', async () => {
      touch('a.vmdk', 'a-flat.vmdk', 'b.vmdk', 'b-s001.vmdk', 'b-s002.vmdk', 'c-flat.vmdk', 'd-0.vmdk', 'D-f001.vmdk');
      assert.deepEqual(await findDisks(temp('')), ['D-f001.vmdk', 'a.vmdk', 'b.vmdk', 'c-flat.vmdk', 'd-0.vmdk']);
    });

    it('are an error when the volume has none or does not exist', async () => {
      await assert.rejects(findDisks(temp('')), failsWith('SourceNotFound', /no disk on the volume/));
      await assert.rejects(findDisks(temp('nowhere')), failsWith('SourceNotFound', /nowhere: not found/));
    });
  });

  describe('a companion file of a hypervisor', () => {
    const look = () => lookAtVolume(temp(''), loadLibc());

    for (const [hypervisor, disks, companions] of [
      [
        'VMware',
        ['vm.vmdk', 'vm_1.vmdk'],
        [
          ...['vm-flat.vmdk', 'vm-ctk.vmdk', 'vm_1-s001.vmdk', 'vm_1-s002.vmdk', 'vm_1-rdmp.vmdk', 'vm-digest.vmdk'],
          ...['vm.vmx', 'vm.vmxf', 'vm.nvram', 'vm.vmsd', 'vm-Snapshot1.vmsn', 'vm-1f.vmss', 'vm-1f.vmem', 'vm.vmx.lck', 'vm-1f.vswp'],
          ...['vmware.log', 'vmware-0.log', 'vm.scoreboard', 'vm.vmx~.plist', 'vm-aux.hlog', 'vm.vmtx'],
        ],
      ],
      ['VirtualBox', ['vm.vdi'], ['vm.vbox', 'vm.vbox-prev', '2026-11-29T20-00-00-000000000Z.sav', 'vm.nvram', 'VBox.log', 'host-pt.vmdk']],
      ['Hyper-V', ['old.vhd', 'vm.vhdx'], ['A1.vmcx', 'A1.VMRS', 'A1.vmgs', 'A1.xml', 'vm.vhdx.mrt', 'vm.vhdx.rct', 'A1.vsv']],
      [
        'libvirt',
        ['vm.qcow2'],
        ['vm.xml', 'vm_VARS.fd', 'vm_VARS.qcow2', 'OVMF_CODE.fd', 'seed.iso', 'tpm2-00.permall', 'vm.pid', 'monitor.sock'],
      ],
      ['Proxmox VE', ['vm-100-disk-0.raw'], ['vm-100-state-before.raw', '100.conf']],
      ['oVirt', ['a.raw'], ['a.raw.meta', 'a.raw.lease']],
      ['an OVF', ['vm.vmdk'], ['vm.ovf', 'vm.mf', 'vm.cert', 'vm.vmdk.sha256', 'SHA256SUMS.txt', 'a.md5', 'a.asc']],
      ['macOS', ['a.img'], ['._a.img', '._b.vmdk']],
    ] as const)
      it(`${hypervisor}: is neither exported nor reported as a left out disk`, async () => {
        touch(...disks, ...companions);
        mkdirSync(temp('lost+found'));
        mkdirSync(temp('vm.vmdk.lck'));
        const found = await look();
        assert.deepEqual(found.disks, disks);
        assert.deepEqual(found.leftOut, []);
      });

    it('is reported where it is named like a disk', async () => {
      touch('a.raw', 'vm-ctk.vmdk', 'vm-100-state-x.raw', '._a.raw', 'vm_VARS.qcow2', 'edk2-x86_64-vars.raw');
      const { disks, remarks } = await look();
      assert.deepEqual(disks, ['a.raw']);
      const named = remarks.map((remark) => remark.split(' is not exported: it is ')[0]);
      assert.deepEqual(named, ['._a.raw', 'edk2-x86_64-vars.raw', 'vm-100-state-x.raw', 'vm-ctk.vmdk', 'vm_VARS.qcow2']);
    });

    it('does not hide a part of a VMDK without its descriptor', async () => {
      touch('a-s001.vmdk', 'b-000001-delta.vmdk', 'c-flat.vmdk', 'd-sesparse.vmdk');
      assert.deepEqual((await look()).disks, ['a-s001.vmdk', 'b-000001-delta.vmdk', 'c-flat.vmdk', 'd-sesparse.vmdk']);
    });
  });

  describe('a disk that is not exported', () => {
    const look = () => lookAtVolume(temp(''), loadLibc());

    it('is reported beside disk.img', async () => {
      touch('disk.img', 'other.img', 'data.qcow2', 'notes.txt');
      assert.deepEqual(await look(), {
        disks: ['disk.img'],
        leftOut: [
          'data.qcow2 lies beside disk.img; name it in spec.source.disks to export it',
          'other.img lies beside disk.img; name it in spec.source.disks to export it',
        ],
        remarks: [],
      });
    });

    it('is reported when only its bytes identify it: a snapshot of libvirt, a raw disk without an extension', async () => {
      await createImage(temp('vm.qcow2'), { format: 'qcow2', size: '4M' });
      await createImage(temp('vm.before-update'), { format: 'qcow2', backing: { name: 'vm.qcow2', format: 'qcow2' } });
      await createImage(temp('0b1c'), { format: 'vdi', size: '4M' });
      const raw = Buffer.alloc(1024);
      raw.set([0x55, 0xaa], 510);
      writeFileSync(temp('sda.bin'), raw);
      writeFileSync(temp('notes'), 'a text');
      await createImage(temp('old'), { format: 'qcow', size: '4M' });
      const { disks, leftOut } = await look();
      assert.deepEqual(disks, ['vm.qcow2']);
      assert.deepEqual(leftOut, [
        '0b1c looks like an image of format vdi, and is not named like one; name it in spec.source.disks to export it',
        'old looks like a qcow image of version 1, which is not read here; convert it first: qemu-img convert -O qcow2',
        'sda.bin looks like a raw disk, and is not named like one; name it in spec.source.disks to export it',
        'vm.before-update looks like an image of format qcow2, and is not named like one; name it in spec.source.disks to export it',
      ]);
    });

    it('is reported when it is a checkpoint, compressed, in an archive, of an unreadable format, or behind a link', async () => {
      touch('vm.vhdx', 'vm_5D2A.avhdx', 'old.avhd', 'b.img.gz', 'c.qcow2.zst', 'd.ova', 'e.qed', 'f.hds');
      symlinkSync('vm.vhdx', temp('g.img'));
      const { disks, leftOut } = await look();
      assert.deepEqual(disks, ['vm.vhdx']);
      assert.deepEqual(
        leftOut.map((each) => each.split(' ')[0]),
        ['b.img.gz', 'c.qcow2.zst', 'd.ova', 'e.qed', 'f.hds', 'g.img', 'old.avhd', 'vm_5D2A.avhdx'],
      );
      assert.match(
        leftOut.at(-1) ?? '',
        /is a checkpoint of Hyper-V, which is not read here; it holds the newest state of a disk; merge it/,
      );
    });

    it('is reported for each extension that Auto refuses, and a compressed file only where its name says that a disk is in it', async () => {
      const archives = ['a.rar', 'a.tbz2', 'a.txz', 'a.tar', 'a.tar.gz', 'a.xva', 'vzdump.vma.zst', 'disk.dd.lzop', 'a.DMG', 'a.e01'];
      touch('vm.img', ...archives, 'syslog.1.gz', 'access.log.zst', 'a.dd');
      const { leftOut } = await look();
      assert.deepEqual(
        leftOut.map((each) => each.split(' ')[0]),
        archives.toSorted(),
      );
    });

    it('is reported when there is no other disk', async () => {
      touch('a.vmdk.gz');
      await assert.rejects(
        look(),
        failsWith('SourceNotFound', /no disk on the volume .*; left out: a\.vmdk\.gz is a gzip file, which is not read here; unpack it/),
      );
    });

    it('is reported among thousands of files', async () => {
      touch('a.img', ...Array.from({ length: 300 }, (_, index) => `file-${1000 + index}`));
      assert.deepEqual((await look()).remarks, ['44 other files were not looked into, from file-1256 on']);
    });
  });
});
