/**
 * A machine of libvirt's with a disk full of data, of which a part changes. The disk shares its blocks: a file system
 * with reflinks keeps one block of random bytes, so that 64 GiB need no such room.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { asLibvirtUser, type LibvirtGuest, startLibvirtMachine } from '../test/helpers/libvirt.ts';
import { createRandom } from '../test/helpers/seed.ts';
import { BENCH_DIR } from './bench-disks.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const SHARED_BYTES = 256 * MIB;
const UNIT_BYTES = 64 * 1024;
/** Changes are runs of 64 KiB to 1 MiB. */
const MAX_UNITS = 16;
const DEVICE = '/machine/peripheral/virtio-disk0/virtio-backend';
const SEED = 20_261_130;
/** The checkpoint of a full backup, by the name that virtnbdbackup gives it. */
export const CHECKPOINT = 'virtnbdbackup.0';

export interface IncrementalMachine extends AsyncDisposable {
  guest: LibvirtGuest;
  directory: string;
  /** The process that reads the disk. */
  qemuPid: number;
  changedBytes: number;
}

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Needs root, for a file system of its own. */
export async function startIncrementalMachine(sizeGib: number, changedPercent: number): Promise<IncrementalMachine> {
  const directory = path.join(BENCH_DIR, 'incremental');
  const volume = path.join(directory, 'volume');
  const file = (name: string) => path.join(volume, name);
  const clean = () => {
    spawnSync('umount', ['-l', volume], { stdio: 'ignore' });
    rmSync(directory, { recursive: true, force: true });
  };
  clean();
  mkdirSync(volume, { recursive: true });
  try {
    run('truncate', '-s', `${sizeGib + 8}G`, `${directory}/volume.xfs`);
    run('mkfs.xfs', '-q', '-m', 'reflink=1', `${directory}/volume.xfs`);
    run('mount', '-o', 'loop', `${directory}/volume.xfs`, volume);
    fillDisk(file, sizeGib);
    const guest = await startLibvirtMachine(directory, file('disk.qcow2'));
    try {
      await checkpointAsVirtnbdbackup(guest, directory);
      const changedBytes = change(guest, sizeGib, changedPercent);
      const qemuPid = Number(readFileSync(path.join(directory, 'run/libvirt/qemu/run/guest.pid'), 'utf8'));
      return {
        ...{ guest, directory, qemuPid, changedBytes },
        async [Symbol.asyncDispose]() {
          await guest[Symbol.asyncDispose]();
          clean();
        },
      };
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    clean();
    throw error;
  }
}

/** A qcow2 image with a raw data file, as KubeVirt has it: QEMU stores bitmaps only in qcow2. */
function fillDisk(file: (name: string) => string, sizeGib: number): void {
  const options = `data_file=${file('data.raw')},data_file_raw=on,preallocation=metadata`;
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, file('disk.qcow2'), `${sizeGib}G`);
  run('bash', '-c', `head -c ${SHARED_BYTES} /dev/urandom > '${file('shared')}'`);
  const count = (sizeGib * GIB) / SHARED_BYTES;
  const links = Array.from({ length: count }, (_, index) => ['-c', `reflink ${file('shared')} 0 ${index * SHARED_BYTES} ${SHARED_BYTES}`]);
  run('xfs_io', ...links.flat(), file('data.raw'));
  run('cp', '--reflink=always', file('data.raw'), file('base.raw'));
}

/** virtnbdbackup makes a differential backup when its directory shows a full one, whose file it does not read. */
async function checkpointAsVirtnbdbackup(guest: LibvirtGuest, directory: string): Promise<void> {
  const target = path.join(directory, 'virtnbdbackup');
  mkdirSync(path.join(target, 'checkpoints'), { recursive: true });
  await guest.virsh('checkpoint-create-as', 'guest', CHECKPOINT, '--diskspec', 'vda');
  writeFileSync(path.join(target, 'guest.cpt'), JSON.stringify([CHECKPOINT]));
  writeFileSync(path.join(target, 'checkpoints', `${CHECKPOINT}.xml`), await guest.virsh('checkpoint-dumpxml', 'guest', CHECKPOINT));
  writeFileSync(path.join(target, 'vda.full.data'), '');
}

/** Writes to random places. @returns the number of bytes, without those written twice */
function change(guest: LibvirtGuest, sizeGib: number, percent: number): number {
  const units = (sizeGib * GIB) / UNIT_BYTES;
  const wanted = Math.floor((units * percent) / 100);
  const random = createRandom(SEED);
  const dirty = new Set<number>();
  const lines: string[] = [];
  while (dirty.size < wanted) {
    const length = Math.min(1 + Math.floor(random() * MAX_UNITS), wanted - dirty.size);
    const first = Math.floor(random() * (units - length));
    for (let unit = first; unit < first + length; unit += 1) dirty.add(unit);
    lines.push(`write -q -P ${1 + Math.floor(random() * 255)} ${first * UNIT_BYTES} ${length * UNIT_BYTES}`);
  }
  const hmp = lines.map((line) => `qemu-monitor-command --hmp guest 'qemu-io -d ${DEVICE} "${line}"'\n`);
  const words = asLibvirtUser(['virsh', '-q', '-c', 'qemu:///session']);
  const { stdout, stderr } = spawnSync('unshare', words, { env: { ...process.env, ...guest.env }, input: hmp.join('') });
  if (/error|fail|invalid/i.test(`${stdout}${stderr}`)) throw new Error(`virsh: ${stdout}${stderr}`);
  return dirty.size * UNIT_BYTES;
}

/** @returns the words that run virtnbdbackup with the machine's libvirt */
export function virtnbdbackupLine(guest: LibvirtGuest, args: string): string {
  const words = Object.entries(guest.env).map(([name, value]) => `${name}='${value}'`);
  return `env ${words.join(' ')} unshare ${asLibvirtUser(['virtnbdbackup', '-q', '-n', '-U', 'qemu:///session', '-d', 'guest']).join(' ')} ${args}`;
}
