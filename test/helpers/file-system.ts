/** File systems that Linux can mount. They need root. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { runCommand } from './run-command.ts';

/** Commands that make a file system, in a file or of a directory beside it, and mount it at a directory. */
type Kind = (file: string, directory: string) => string[][];

/** Size of the disk on file systems that serve only one disk; the disk must exist before the mount. */
export const ONLY_DISK_BYTES = 33 * 1024 * 1024;

/** mkfs.xfs makes no smaller file system. */
const SIZE_BYTES = 320 * 1024 * 1024;

const FILE_SYSTEMS = {
  xfs: (file, directory) => [
    ['mkfs.xfs', '-q', file],
    ['mount', '-o', 'loop', file, directory],
  ],
  'btrfs that compresses': (file, directory) => [
    ['mkfs.btrfs', '-q', file],
    ['mount', '-o', 'loop,compress-force', file, directory],
  ],
  /** The inodes have no room for fractions of a second. */
  'ext4 with small inodes': (file, directory) => [
    ['mke2fs', '-q', '-t', 'ext4', '-I', '128', file],
    ['mount', '-o', 'loop', file, directory],
  ],
  /** A read-only view of the directory beside it, by a file system in user space. It caches attributes for a minute. */
  'FUSE that remembers': (file, directory) => [
    ['mkdir', '-p', `${file}.origin`],
    ['bindfs', '-o', 'ro,attr_timeout=60,entry_timeout=60', `${file}.origin`, directory],
  ],
  ext4: (file, directory) => [
    ['mke2fs', '-q', '-t', 'ext4', file],
    ['mount', '-o', 'loop', file, directory],
  ],
  btrfs: (file, directory) => [
    ['mkfs.btrfs', '-q', file],
    ['mount', '-o', 'loop', file, directory],
  ],
  tmpfs: (_file, directory) => [['mount', '-t', 'tmpfs', 'tmpfs', directory]],
  overlayfs: (file, directory) => [
    ['mkdir', `${file}.origin`, `${file}.empty`],
    ['mount', '-t', 'overlay', '-o', `lowerdir=${file}.origin:${file}.empty`, 'overlay', directory],
  ],
  /** Runs the SFTP server as its child, without ssh. */
  sshfs: (file, directory) => [
    ['mkdir', `${file}.origin`],
    ['sshfs', '-o', 'ro,ssh_command=sh -c /usr/lib/openssh/sftp-server', `server:${file}.origin`, directory],
  ],
  'fuse-overlayfs': (file, directory) => [
    ['mkdir', `${file}.origin`],
    // The mount never shows a file that did not exist when it was mounted.
    ['truncate', '-s', `${ONLY_DISK_BYTES}`, `${file}.origin/disk.img`],
    ['fuse-overlayfs', '-o', `lowerdir=${file}.origin`, directory],
  ],
  nbdfuse: (file, directory) => [
    ['mkdir', `${file}.origin`],
    ['truncate', '-s', `${ONLY_DISK_BYTES}`, `${file}.origin/disk.img`],
    ['sh', '-c', `nbdfuse -r '${directory}/disk.img' --command nbdkit -s file '${file}.origin/disk.img' < /dev/null > /dev/null 2>&1 &`],
    ['timeout', '10', 'sh', '-c', `until test -e '${directory}/disk.img'; do sleep 0.02; done`],
  ],
  /** Its only disk fails to read the byte whose offset the file `broken` beside it names. */
  'storage with an unreadable sector': (file, directory) => [
    ['mkdir', `${file}.origin`],
    ['truncate', '-s', `${ONLY_DISK_BYTES}`, `${file}.origin/disk.img`],
    [
      ...['sh', '-c', 'disk=$1 get_size=$2 pread=$3; nbdfuse -r "$disk" --command nbdkit -s eval "$get_size" "$pread" > /dev/null 2>&1 &'],
      ...['sh', `${directory}/disk.img`, `get_size=echo ${ONLY_DISK_BYTES}`, `pread=${readUnlessBroken(`${file}.origin`)}`],
    ],
    ['timeout', '10', 'sh', '-c', `until test -e '${directory}/disk.img'; do sleep 0.02; done`],
  ],
  'FUSE export of QEMU': (file, directory) => [
    ['mkdir', `${file}.origin`],
    ['truncate', '-s', `${ONLY_DISK_BYTES}`, `${file}.origin/disk.img`],
    ['touch', `${directory}/disk.img`],
    [
      ...['qemu-storage-daemon', '--daemonize', '--pidfile', `${file}.pid`],
      ...['--blockdev', `driver=file,filename=${file}.origin/disk.img,node-name=disk,locking=off`],
      ...['--export', `type=fuse,id=disk,node-name=disk,mountpoint=${directory}/disk.img`],
    ],
  ],
} as const satisfies Record<string, Kind>;

/** A script for nbdkit's eval plugin, which calls it with a handle, a length and an offset. */
function readUnlessBroken(origin: string): string {
  const isBroken = `[ $4 -le $broken ] && [ $(( $4 + $3 )) -gt $broken ]`;
  const read = `dd if='${origin}/disk.img' bs=64K iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none`;
  return `broken=$(cat '${origin}/broken'); if ${isBroken}; then echo 'EIO the sector is gone' >&2; exit 1; fi; ${read}`;
}

type FileSystemName = keyof typeof FILE_SYSTEMS;

/**
 * Paths in a file system: where it is mounted, and where a test makes its files. Both differ only for a read-only file
 * system.
 */
export interface FileSystem {
  mounted(name: string): string;
  origin(name: string): string;
}

/**
 * Has a suite run on a file system of its own. Where that cannot be mounted, the suite is skipped with one loud line,
 * and fails in CI. Call inside `describe`.
 */
export function useFileSystem(name: FileSystemName): FileSystem {
  let directory: string;
  let mount: string | undefined;
  const fileOf = () => path.join(directory, 'file');

  before(async function () {
    directory = await mkdtemp(path.join(os.tmpdir(), 'disklift-test-'));
    try {
      assert.equal(process.getuid?.(), 0, 'mounting needs root');
      mount = await mountFileSystem(name, fileOf());
    } catch (error) {
      if (process.env.CI) throw error;
      console.error(`    SKIPPED: tests on ${name}: ${error instanceof Error ? error.message : error}`);
      this.skip();
    }
  });

  after(async () => {
    // QEMU mounts a file, and its daemon's end unmounts it.
    if (existsSync(`${fileOf()}.pid`)) await run('sh', '-c', `pid=$(cat '${fileOf()}.pid'); kill $pid; tail --pid=$pid -f /dev/null`);
    else if (mount !== undefined) await run('umount', mount);
    await rm(directory, { recursive: true });
  });

  return {
    mounted: (file) => path.join(mount ?? assert.fail(), file),
    origin: (file) => path.join(existsSync(`${fileOf()}.origin`) ? `${fileOf()}.origin` : (mount ?? assert.fail()), file),
  };
}

/** @returns where it is mounted */
async function mountFileSystem(name: FileSystemName, file: string): Promise<string> {
  const directory = `${file}.mounted`;
  await mkdir(directory);
  await using made = await open(file, 'w');
  await made.truncate(SIZE_BYTES);
  for (const [program = '', ...args] of FILE_SYSTEMS[name](file, directory)) await run(program, ...args);
  return directory;
}

async function run(program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runCommand(program, args);
  assert.equal(code, 0, `${program}: ${stderr.trim()}`);
}
