/**
 * KubeVirt's backups in push mode, made by libvirt as KubeVirt makes them: a sparse qcow2 for each backup. They lie on
 * a claim as VM/BACKUP-TIME/BACKUP-VOLUME.qcow2. disklift sends them to a real S3 server, and QEMU judges the chain
 * after the download.
 */

import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { createImage } from '../helpers/create-image.ts';
import { disklift } from '../helpers/disklift.ts';
import { type LibvirtGuest, requireLibvirt, startLibvirtGuest } from '../helpers/libvirt.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { runCommand } from '../helpers/run-command.ts';
import { BUCKET } from '../helpers/s3-fake.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS } from '../helpers/versitygw.ts';

/** Each with the time in its directory's name. */
const BACKUPS = { full: '20261129-020000', monday: '20261130-020000', tuesday: '20261201-020000' } as const;
const fileOf = (backup: keyof typeof BACKUPS) => `db01/${backup}-${BACKUPS[backup]}/${backup}-rootdisk.qcow2`;

describe("KubeVirt's backups in push mode", function () {
  this.timeout(180_000);
  const temp = useTempDir();
  before(function () {
    requireLibvirt(this);
    requireVersitygw(this);
  });

  async function succeeds(command: string, args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await runCommand(command, args);
    assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
    return `${stdout}`;
  }

  /** A backup, and a copy of the disk at the same point in time, at which the guest stands still. */
  async function backUp(guest: LibvirtGuest, name: keyof typeof BACKUPS, since?: keyof typeof BACKUPS): Promise<void> {
    const target = temp(`claim/${fileOf(name)}`);
    await mkdir(path.dirname(target), { recursive: true });
    await guest.virsh('suspend', 'guest');
    await guest.pushBackup(name, since, target);
    const uri = await guest.beginBackup(`${name}-truth`);
    await succeeds('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, temp(`${name}.truth`)]);
    await guest.endBackup();
    await guest.virsh('checkpoint-delete', 'guest', `${name}-truth`);
    await guest.virsh('resume', 'guest');
  }

  async function exportBackups(url: string, image: object) {
    const s3 = {
      ...{ endpoint: url, region: 'us-east-1', bucket: BUCKET, key: 'backups/{claim}/{disk}.qcow2', forcePathStyle: true },
      credentialsSecretRef: { name: 'keys' },
    };
    const source = { persistentVolumeClaim: { claimName: 'backups' }, disks: [{ path: 'db01/*/*.qcow2' }] };
    const { accessKeyId, secretAccessKey } = VERSITYGW_KEYS;
    const keys = credentialsSecret('keys', { accessKeyId, secretKey: secretAccessKey });
    const objects = [keys, diskExport('push', { s3 }, { source, ...image })];
    await writeFile(temp('request.yaml'), objects.map((object) => stringify(object)).join('---\n'));
    const result = await disklift(['export', '-f', temp('request.yaml'), '--volume', `backups=${temp('claim')}`]);
    return { ...result, status: (parse(`${result.stdout}`) as { status: DiskExportStatus }).status };
  }

  it('arrive as they are when the request says so, and are the disk at each point in time when they are rebased', async () => {
    await using guest = await startLibvirtGuest(temp(''), '64M');
    await guest.write('write -q -P 1 0x100000 8M');
    await backUp(guest, 'full');
    for (const command of ['write -q -z 2M 256k', 'discard -q 3M 1M', 'write -q -P 2 63M 4k']) await guest.write(command);
    await backUp(guest, 'monday', 'full');
    for (const command of ['write -q -P 3 2M 64k', 'write -q -z -u 5M 2M']) await guest.write(command);
    await mkdir(path.dirname(temp(`claim/${fileOf('tuesday')}`)));
    await createImage(temp(`claim/${fileOf('tuesday')}`), { format: 'qcow2', size: '64M' });
    await backUp(guest, 'tuesday', 'monday');
    const names = Object.keys(BACKUPS) as (keyof typeof BACKUPS)[];
    const backingNames = names.map(async (name) => {
      const info = JSON.parse(await succeeds('qemu-img', ['info', '--output=json', temp(`claim/${fileOf(name)}`)]));
      return info['backing-filename'] as string | undefined;
    });
    // libvirt names the running disk, which is not the base. A target that was made before has no name.
    assert.deepEqual(await Promise.all(backingNames), [undefined, temp('disk.qcow2'), undefined]);

    await using s3 = await startVersitygw(temp('objects'), BUCKET);
    const refused = await exportBackups(s3.url, {});
    assert.equal(refused.code, 2, refused.stderr);
    assert.match(refused.stderr, /lies where KubeVirt writes backups.*spec\.image\.layout/);
    assert.equal(refused.status.disks?.some(({ location }) => location !== undefined) ?? false, false, 'nothing was sent');

    const converted = await exportBackups(s3.url, { image: { layout: 'Converted' } });
    assert.equal(converted.code, 2, converted.stderr);
    assert.match(converted.stderr, /monday-rootdisk\.qcow2: its backing file is ".*disk\.qcow2", an absolute path that is not beneath/);

    const { code, stderr, status } = await exportBackups(s3.url, { image: { layout: 'Verbatim' } });
    assert.equal(code, 0, stderr);
    assert.deepEqual(status.disks?.map((disk) => disk.path).sort(), names.map(fileOf).sort());
    await mkdir(temp('restored'));
    for (const name of names) {
      const object = s3.objectPath(BUCKET, `backups/backups/${name}-rootdisk.qcow2`);
      assert.ok((await readFile(object)).equals(await readFile(temp(`claim/${fileOf(name)}`))), name);
      await copyFile(object, temp(`restored/${name}.qcow2`));
    }
    for (const [index, name] of names.entries()) {
      const image = temp(`restored/${name}.qcow2`);
      const base = names[index - 1];
      if (base !== undefined) await succeeds('qemu-img', ['rebase', '-u', '-b', `${base}.qcow2`, '-F', 'qcow2', image]);
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', temp(`${name}.truth`), image]);
    }
  });
});
