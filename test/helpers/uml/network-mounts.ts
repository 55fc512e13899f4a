/**
 * Network file systems in a guest of User Mode Linux. Real servers export one directory, /run/server, to two clients
 * each. The second client has its own network, and its own name at the server.
 */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { runShell } from '../run-command.ts';
import { bootUmlGuest, type UmlGuest } from './uml-guest.ts';

export const MOUNT_NAMES = ['nfs-4.2', 'nfs-4.0', 'nfs-3', 'nfs-3-nolock', 'smb', 'smb-nobrl', '9p'] as const;
export type MountName = (typeof MOUNT_NAMES)[number];

/** Paths of the same file at the server, at a client and at the other client. */
export const atServer = (file: string) => `/run/server/${file}`;
export const atClient = (mount: MountName, file: string) => `/run/mnt/${mount}/${file}`;
export const atOtherClient = (mount: MountName, file: string) => `/run/mnt/${mount}-other/${file}`;

const PROTOCOLS = ['nfs', 'smb', '9p'] as const;

/** The server's directory is an ext4 of its own. The other client's network is joined to the server's by one cable. */
const PREPARE = `
set -e
mke2fs -q -t ext4 /dev/ubda
mkdir -p /run/server
mount /dev/ubda /run/server
ip netns add other
ip link add server type veth peer name client netns other
ip addr add 10.0.0.1/24 dev server
ip link set server up
ip -n other addr add 10.0.0.2/24 dev client
ip -n other link set client up
hostname server
printf '127.0.0.1 localhost\\n10.0.0.1 server\\n10.0.0.2 client\\n' > /run/hosts
mount --bind /run/hosts /etc/hosts`;

/** Boots a guest and starts the servers, of these protocols only. */
async function bootNetworkMounts(protocols: readonly (typeof PROTOCOLS)[number][] = PROTOCOLS): Promise<UmlGuest> {
  const guest = await bootUmlGuest();
  try {
    await guest.output(PREPARE);
    for (const protocol of protocols) await guest.output(path.join(import.meta.dirname, `serve-${protocol}.sh`));
    return guest;
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}

const PROGRAMS = ['linux.uml', 'mke2fs', 'modprobe', 'ip', 'rpc.nfsd', 'mount.nfs', 'smbd', 'mount.cifs', 'diod', 'qemu-io'];

/**
 * The kernel of Debian 12 (6.1) has room for the registers of older processors only. With AMX its first process ends by
 * put_fp_registers, and the kernel panics. No setting of the guest changes that.
 */
async function problemOfThisProcessor(): Promise<string | undefined> {
  const hasAmx = /\bamx_tile\b/.test(await readFile('/proc/cpuinfo', 'utf8'));
  return hasAmx ? 'User Mode Linux 6.1 runs on no processor with AMX' : undefined;
}

async function problemOfThisMachine(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'they need root';
  const look = await runShell(
    `PATH="$PATH:/usr/sbin:/sbin"; for program in ${PROGRAMS.join(' ')}; do command -v $program > /dev/null || echo $program; done`,
  );
  const missing = look.stdout.toString().trim().split(/\s+/).join(' ');
  return missing === '' ? undefined : `not installed: ${missing}`;
}

/**
 * Boots a guest with these mounts before a suite and ends it after the suite. Where that is not possible, the suite is
 * skipped with one loud line, and fails in CI unless the processor is the cause. Call it inside `describe`.
 */
export function useNetworkMounts(protocols?: readonly (typeof PROTOCOLS)[number][]): () => UmlGuest {
  let guest: UmlGuest | undefined;

  before(async function () {
    this.timeout(120_000);
    const ofProcessor = await problemOfThisProcessor();
    const problem = ofProcessor ?? (await problemOfThisMachine());
    if (problem === undefined) {
      guest = await bootNetworkMounts(protocols);
      return;
    }
    if (process.env.CI && process.arch === 'x64' && ofProcessor === undefined)
      assert.fail(`tests of network file systems cannot run: ${problem}`);
    console.error(`    SKIPPED: tests of network file systems: ${problem}`);
    this.skip();
  });

  after(async () => guest?.[Symbol.asyncDispose]());

  return () => guest ?? assert.fail('the guest has not been booted');
}

/** Asserts, with qemu-img in the guest, that an image in the guest is clean and equals the server's file. */
export async function assertGuestImage(guest: UmlGuest, imagePath: string, file: string): Promise<void> {
  const disk = atServer(file);
  // `qemu-img compare` accepts a shorter disk as equal when the rest is zeros.
  const sizes = `[ $(qemu-img info '${imagePath}' --output json | grep -om1 '"virtual-size": [0-9]*' | tr -dc 0-9) = $(stat -c %s '${disk}') ]`;
  const judge = `qemu-img check -q -f qcow2 '${imagePath}' && qemu-img compare -f raw -F qcow2 '${disk}' '${imagePath}' && ${sizes}`;
  const { code, stdout, stderr } = await guest.run(judge);
  assert.equal(code, 0, `${imagePath}: ${stdout}${stderr}`);
}
