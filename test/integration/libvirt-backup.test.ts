/**
 * Backups of libvirt in pull mode: the guest writes on while QEMU serves the bytes of one point in time and a bitmap.
 */

import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { diskliftLine } from '../helpers/disklift.ts';
import { type LibvirtGuest, requireLibvirt, startLibvirtGuest } from '../helpers/libvirt.ts';
import { runCommand, runShell } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const BITMAP = 'qemu:dirty-bitmap:backup-vda';

describe("a backup of libvirt's in pull mode", function () {
  this.timeout(180_000);
  const temp = useTempDir();
  before(function () {
    requireLibvirt(this);
  });

  async function succeeds(command: string, args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await runCommand(command, args);
    assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
    return `${stdout}`;
  }

  const line = (uri: string, base?: string, flags: readonly string[] = []) =>
    diskliftLine(['stream', uri, ...(base === undefined ? [] : ['--changed', BITMAP, '--base', base]), ...flags]);

  /**
   * Backs the disk up while the guest writes on. QEMU's own copy of the disk is made first, in front of all these
   * writes.
   */
  async function backUp(guest: LibvirtGuest, name: string, base?: string, flags: readonly string[] = []): Promise<void> {
    await guest.virsh('suspend', 'guest');
    const uri = await guest.beginBackup(name, base);
    await succeeds('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, temp(`${name}.truth`)]);
    await guest.virsh('resume', 'guest');
    await guest.hasWritten((await guest.writeCount()) + 100);
    await guest.write('write -q -P 0xee 0 8M');
    const { code, stderr } = await runShell(`${line(uri, base && `${base}.qcow2`, flags)} > '${temp(`${name}.qcow2`)}'`);
    assert.deepEqual([code, stderr], [0, '']);
    await guest.endBackup();
  }

  async function assertPoints(...names: string[]): Promise<void> {
    for (const name of names) {
      const [truth, image] = [temp(`${name}.truth`), temp(`${name}.qcow2`)];
      assert.equal((await stat(truth)).size, JSON.parse(await succeeds('qemu-img', ['info', '--output=json', image]))['virtual-size']);
      await succeeds('qemu-img', ['check', '-q', image]);
      await succeeds('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', truth, image]);
    }
  }

  it('is a full image and deltas on it, each of which is the disk at its point in time while the guest writes', async () => {
    await using guest = await startLibvirtGuest(temp(''), '64M');
    await guest.write('write -q -P 1 4M 4M');
    await guest.write('write -q -P 2 40M 8M');
    await backUp(guest, 'full');
    for (const command of ['write -q -z 5M 256k', 'discard -q 6M 1M', 'write -q -P 3 63M 4k', 'write -q -P 0 41M 1M'])
      await guest.write(command);
    await backUp(guest, 'first', 'full');
    await guest.write('write -q -P 4 30M 70k');
    await guest.write('write -q -z -u 40M 8M');
    await backUp(guest, 'second', 'first');
    await assertPoints('full', 'first', 'second');
    const sizeOf = async (name: string) => (await stat(temp(`${name}.qcow2`))).size;
    assert.ok((await sizeOf('second')) < 10 * 1024 * 1024, 'the 8 MiB of zeros are no data');
  });

  it('counts from the checkpoint across an external snapshot, and with the size of the base across a larger disk', async () => {
    await using guest = await startLibvirtGuest(temp(''), '64M');
    await guest.write('write -q -P 1 0x100000 8M');
    await backUp(guest, 'full');
    await guest.write('write -q -P 2 2M 64k');
    await guest.virsh('snapshot-create-as', 'guest', 'external', '--disk-only', '--no-metadata');
    await guest.write('write -q -P 3 3M 64k');
    await backUp(guest, 'overlay', 'full');
    await guest.virsh('blockresize', 'guest', 'vda', '80M');
    await guest.write('write -q -P 4 72M 64k');
    await backUp(guest, 'larger', 'overlay', ['--base-size', '64M']);
    await assertPoints('full', 'overlay', 'larger');
  });

  it('fails without an image when the backup ends while it is read', async () => {
    await using guest = await startLibvirtGuest(temp(''), '64M');
    await guest.write('write -q -P 1 0x100000 40M');
    const uri = await guest.beginBackup('full');
    const abort = `XDG_RUNTIME_DIR='${temp('run')}' unshare --user --map-user=1 virsh -q -c qemu:///session domjobabort guest`;
    const { code, stderr } = await runShell(`${line(uri)} | { head -c 1000000; ${abort} >&2; cat; } > '${temp('full.qcow2')}'`);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /the server (?:has )?closed the connection|was reset/);
    assert.notEqual((await runCommand('qemu-img', ['check', temp('full.qcow2')])).code, 0, 'the image is cut short');
  });
});
