/** libvirt's own daemon and a virtual machine without KVM, as any user runs them: all files lie in one directory. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasEnded } from './has-ended.ts';
import { type CommandResult, runCommand } from './run-command.ts';

const PROGRAMS = ['libvirtd', 'virsh', 'qemu-system-x86_64'];
const DOMAIN = 'guest';
/** The BIOS writes its first sectors to the disk within a second; TCG on a busy machine takes longer. */
const BOOT_LIMIT_MS = 30_000;

/** Skips a suite with one loud line where libvirt is not installed; fails it in CI. Call it in `before`. */
export function requireLibvirt(context: Mocha.Context): void {
  const search = { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } };
  const missing = PROGRAMS.filter((program) => spawnSync(program, ['--version'], search).error !== undefined);
  if (missing.length === 0) return;
  const problem = `${missing.join(', ')} missing; make judges installs them`;
  if (process.env.CI) assert.fail(`tests with libvirt cannot run: ${problem}`);
  console.error(`    SKIPPED: tests with libvirt: ${problem}`);
  context.skip();
}

/**
 * A boot sector that writes 4 KiB at a time without end, over the 8 MiB behind the first 16 MiB of the disk. Each block
 * begins with a new number.
 */
function writingBootSector(): Buffer {
  const sector = Buffer.alloc(512);
  const code = [
    ...[0x31, 0xc0, 0x8e, 0xd8], // ax = 0, ds = 0
    ...[0xbe, 0x40, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13], // int 13h, extended write, by the packet at 7C40h
    ...[0x66, 0x83, 0x06, 0x48, 0x7c, 0x08], // the next 8 sectors
    ...[0x66, 0x81, 0x26, 0x48, 0x7c, 0xf8, 0x3f, 0x00, 0x00], // within 16384 sectors
    ...[0x66, 0x81, 0x0e, 0x48, 0x7c, 0x00, 0x80, 0x00, 0x00], // behind sector 32768
    ...[0x66, 0xff, 0x06, 0x00, 0x7e], // the number at 7E00h
    ...[0xeb, 0xd7], // again from the packet on
  ];
  Buffer.from(code).copy(sector);
  // The packet: its size, 8 sectors, from 0000:7E00h, to sector 32768.
  Buffer.from([16, 0, 8, 0, 0x00, 0x7e, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0]).copy(sector, 0x40);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** Arguments of unshare. Root would get the machine's own libvirt, whose files lie in /etc and /var. */
export const asLibvirtUser = (words: readonly string[]): string[] => ['--user', '--map-user=1', '--map-group=1', ...words];

function domainXml(diskPath: string): string {
  return `<domain type='qemu'><name>${DOMAIN}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
    <os><type arch='x86_64' machine='pc'>hvm</type></os>
    <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/><source file='${diskPath}'/><target dev='vda' bus='virtio'/>
    </disk></devices></domain>`;
}

export interface LibvirtGuest extends AsyncDisposable {
  /** The environment in which programs find its libvirt, as the user of {@link asLibvirtUser}. */
  env: Record<string, string>;
  /** Runs a command of virsh. @returns its output */
  virsh(...args: string[]): Promise<string>;
  /** Writes to the disk as the guest's device does, by a command of qemu-io. */
  write(command: string): Promise<void>;
  /** Number of writes that the guest has made. */
  writeCount(): Promise<number>;
  /** Waits until the guest has made more writes than that. */
  hasWritten(count: number): Promise<void>;
  /**
   * Starts a backup in pull mode, and a checkpoint.
   * @param since the checkpoint that an incremental backup counts from
   * @returns the URI of the disk
   */
  beginBackup(checkpoint: string, since?: string): Promise<string>;
  endBackup(): Promise<void>;
  /**
   * Makes a backup in push mode, and a checkpoint.
   * @param since as for {@link beginBackup}
   * @param target the file, which libvirt makes unless it exists
   */
  pushBackup(checkpoint: string, since: string | undefined, target: string): Promise<void>;
}

function backupXml(mode: string, since: string | undefined, server: string, disk: string): string {
  return `<domainbackup mode='${mode}'>${since === undefined ? '' : `<incremental>${since}</incremental>`}${server}
    <disks><disk name='vda' backup='yes' type='file'>${disk}</disk></disks></domainbackup>`;
}

/** Starts a machine whose guest writes to its disk without end. @param directory is short: sockets are in it */
export async function startLibvirtGuest(directory: string, diskSize: string): Promise<LibvirtGuest> {
  const disk = path.join(directory, 'disk.qcow2');
  const boot = path.join(directory, 'boot');
  writeFileSync(boot, writingBootSector());
  await succeeds('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', boot, disk]);
  await succeeds('qemu-img', ['resize', '-q', disk, diskSize]);
  const guest = await startLibvirtMachine(directory, disk);
  try {
    await guest.hasWritten(10);
    return guest;
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}

async function succeeds(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> {
  const result = await runCommand(command, args, { env });
  assert.equal(result.code, 0, `${command} ${args.join(' ')}: ${result.stdout}${result.stderr}`);
  return result;
}

/** @param disk a qcow2 image, from which the machine tries to boot */
export async function startLibvirtMachine(directory: string, disk: string): Promise<LibvirtGuest> {
  const file = (name: string) => path.join(directory, name);
  mkdirSync(file('run'), { mode: 0o700 });
  const env = {
    ...{ PATH: `${process.env.PATH}:/usr/sbin`, HOME: directory, XDG_RUNTIME_DIR: file('run') },
    ...{ XDG_CONFIG_HOME: file('config'), XDG_CACHE_HOME: file('cache'), XDG_DATA_HOME: file('data') },
    // Otherwise virsh starts a daemon of its own when it comes first.
    LIBVIRT_AUTOSTART: '0',
  };
  const virsh = async (...args: string[]) =>
    `${(await succeeds('unshare', asLibvirtUser(['virsh', '-c', 'qemu:///session', ...args]), env)).stdout}`;

  const daemon = spawn('unshare', asLibvirtUser(['libvirtd']), { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  daemon.stderr.on('data', (bytes: Buffer) => {
    output += bytes;
  });
  const ended = once(daemon, 'close');
  const stop = async () => {
    await runCommand('unshare', asLibvirtUser(['virsh', '-c', 'qemu:///session', 'destroy', DOMAIN]), { env });
    daemon.kill();
    await ended;
  };

  async function begin(checkpoint: string, backup: string, hasTarget = false): Promise<void> {
    writeFileSync(file('backup.xml'), backup);
    writeFileSync(file('checkpoint.xml'), `<domaincheckpoint><name>${checkpoint}</name></domaincheckpoint>`);
    await virsh('backup-begin', DOMAIN, file('backup.xml'), file('checkpoint.xml'), ...(hasTarget ? ['--reuse-external'] : []));
  }

  async function writeCount(): Promise<number> {
    const found = /wr_req (\d+)/.exec(await virsh('domblkstat', DOMAIN, 'vda'));
    return Number(found?.[1]);
  }
  async function hasWritten(count: number): Promise<void> {
    for (const endMs = performance.now() + BOOT_LIMIT_MS; performance.now() < endMs; await delay(20))
      if ((await writeCount()) > count) return;
    assert.fail(`the guest has not made ${count} writes`);
  }

  try {
    for (;;) {
      const { code } = await runCommand('unshare', asLibvirtUser(['virsh', '-c', 'qemu:///session', 'version']), { env });
      if (code === 0) break;
      assert.ok(!hasEnded(daemon), output);
      await delay(50);
    }
    writeFileSync(file('domain.xml'), domainXml(disk));
    await virsh('define', file('domain.xml'));
    await virsh('start', DOMAIN);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    env,
    virsh,
    writeCount,
    hasWritten,
    async write(command) {
      const device = '/machine/peripheral/virtio-disk0/virtio-backend';
      const answer = await virsh('qemu-monitor-command', '--hmp', DOMAIN, `qemu-io -d ${device} "${command}"`);
      assert.equal(answer.trim(), '');
    },
    async beginBackup(checkpoint, since) {
      const server = `<server transport='unix' socket='${file('nbd.sock')}'/>`;
      await begin(checkpoint, backupXml('pull', since, server, `<scratch file='${file(`scratch-${checkpoint}.qcow2`)}'/>`));
      return `nbd+unix:///vda?socket=${file('nbd.sock')}`;
    },
    endBackup: async () => void (await virsh('domjobabort', DOMAIN)),
    async pushBackup(checkpoint, since, target) {
      await begin(checkpoint, backupXml('push', since, '', `<driver type='qcow2'/><target file='${target}'/>`), existsSync(target));
      while (!/Job type: +None/.test(await virsh('domjobinfo', DOMAIN))) await delay(20);
      assert.match(await virsh('domjobinfo', DOMAIN, '--completed'), /Job type: +Completed[\s\S]*Operation: +Backup/);
    },
    [Symbol.asyncDispose]: stop,
  };
}
