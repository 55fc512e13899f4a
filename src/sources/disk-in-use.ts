/** Checks whether another process writes to a disk, and keeps QEMU from writing to it. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import { lockByte, lookForLock, unlockByte } from '../native/file-lock.ts';
import type { Libc } from '../native/libc.ts';
import type { FileSystem } from './file-system.ts';

/**
 * - 'wait' and 'fail' require proof that nobody writes, and keep QEMU from writing while the disk is open. Without
 *   proof they fail. With 'wait' the error is retryable.
 * - 'auto' does as QEMU's programs do: it refuses a disk that is known to be in use, and keeps QEMU from writing where
 *   there are locks.
 * - 'allow' takes no locks.
 */
export type InUse = 'auto' | 'wait' | 'fail' | 'allow';

export interface FileToGuard {
  fd: number;
  name: string;
  libc: Libc | undefined;
  inode: bigint;
  isBlockDevice: boolean;
  fileSystem: Pick<FileSystem, 'type' | 'locksAreShared'>;
  writers?: WritersKnown | undefined;
}

/** Facts about writers from another source than locks. */
export interface WritersKnown {
  /** True where nobody else can write to the disk; a disk without locks is then free. */
  isFree: boolean;
  /** The reason why that is not known, for messages. */
  why?: string;
}

/** @throws DiskliftError `SourceInUse`, retryable with 'wait'; `InUseUnknown`; `SourceReadError` */
export async function guardAgainstWriters(file: FileToGuard, inUse: InUse): Promise<void> {
  if (inUse === 'allow') return;
  const unknown = await lockOrWhyNot(file, inUse);
  if (unknown === undefined || inUse === 'auto' || file.writers?.isFree) return;
  const reasons = [unknown, file.writers?.why].filter((why) => why !== undefined).join(', and ');
  throw new DiskliftError(
    'InUseUnknown',
    `${file.name}: ${reasons}, so nobody can tell whether it is in use; stop its VM, then read it with inUse Allow (--in-use allow)`,
  );
}

/** @returns the reason why locks prove nothing; undefined where they prove that nobody writes */
async function lockOrWhyNot({ fd, name, libc, inode, isBlockDevice, fileSystem }: FileToGuard, inUse: InUse): Promise<string | undefined> {
  // Locks on a device node are local to a node, and the device may be attached to several.
  if (isBlockDevice) return 'a block device has no locks';
  if (libc === undefined) return 'koffi is not available to ask for its locks';
  const lock = await lockImage(libc, fd, name);
  if (lock.state === 'held')
    return fileSystem.locksAreShared ? undefined : `its file system (${fileSystem.type}) may not show the locks of other machines`;
  if (lock.state === 'unknown') return `the file system gives no locks (${lock.errno})`;
  const { byte, processId } = lock;
  const holder = processId === undefined ? await findLockHolder({ name, inode, byte }) : await describeProcess(processId);
  throw new DiskliftError(
    'SourceInUse',
    `${name}: is in use by ${holder ?? 'another process'}; stop its VM, or read it as it is with inUse Allow (--in-use allow)`,
    undefined,
    { retryable: inUse === 'wait' },
  );
}

/**
 * QEMU's programs coordinate by locks on single bytes of an image, always shared (QEMU, block/file-posix.c). A lock on
 * byte 100 + n: "I use permission n". A lock on byte 200 + n: "nobody else may use permission n".
 */
const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;

const used = (permission: number) => 100 + permission;
const unshared = (permission: number) => 200 + permission;

/** The locks that `qemu-img convert` takes on its input. A lock on more bytes would keep readers out as well. */
const OWN_BYTES = [used(CONSISTENT_READ), unshared(WRITE), unshared(RESIZE)];
const CONFLICTING_BYTES = [used(WRITE), used(RESIZE), unshared(CONSISTENT_READ)];

/**
 * Errors of file systems without such locks, and of those that deny them to this process. They prove nothing about the
 * disk.
 */
const NO_LOCKS: ReadonlySet<string> = new Set([...['ENOLCK', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL'], ...['EACCES', 'EPERM']]);

type ImageLock =
  | { state: 'held' }
  /** Another process writes to the image, or keeps others from reading it; it holds a conflicting lock on `byte`. */
  | { state: 'inUse'; byte: number; processId?: number | undefined }
  | { state: 'unknown'; errno: string };

/**
 * Takes a reader's locks, which keep QEMU from starting to write, for as long as `fd` is open. Releases all of them
 * when one cannot be had. Takes its own locks before it looks for others: when two processes do this at the same time,
 * at least one sees the other.
 * @throws DiskliftError `SourceReadError`
 */
async function lockImage(libc: Libc, fd: number, name: string): Promise<ImageLock> {
  const lock = await tryLock(libc, fd, name);
  if (lock.state !== 'held') for (const byte of OWN_BYTES) await unlockByte(libc, fd, byte);
  return lock;
}

async function tryLock(libc: Libc, fd: number, name: string): Promise<ImageLock> {
  for (const byte of OWN_BYTES) {
    const errno = await lockByte(libc, fd, byte);
    // QEMU takes shared locks only, so another program has an exclusive one.
    if (errno === 'EAGAIN') return { state: 'inUse', byte };
    if (errno !== undefined) return unknown(errno, name);
  }
  for (const byte of CONFLICTING_BYTES) {
    const look = await lookForLock(libc, fd, byte);
    if (look === 'free') continue;
    return 'errno' in look ? unknown(look.errno, name) : { state: 'inUse', byte, processId: look.processId };
  }
  return { state: 'held' };
}

function unknown(errno: string, name: string): ImageLock {
  if (NO_LOCKS.has(errno)) return { state: 'unknown', errno };
  throw new DiskliftError('SourceReadError', `${name}: cannot ask for its locks: ${errno}`);
}

interface HeldLock {
  /** The path of the file. */
  name: string;
  inode: bigint;
  byte: number;
}

/** A lock in /proc/PID/fdinfo/FD: kind, mode, owner, device:inode, first and last byte. */
const LOCK_LINE = /^lock:.* [0-9a-f]+:[0-9a-f]+:(?<inode>\d+) (?<start>\d+) (?<end>\d+|EOF)$/gm;

/**
 * Finds the process that holds a lock: a hint for messages, never a proof.
 * @returns such as `qemu-io (pid 17)`; undefined for a process on another node, in another container, or of another
 * user
 */
async function findLockHolder(lock: HeldLock): Promise<string | undefined> {
  const processIds = (await fs.readdir('/proc').catch(() => [])).filter((entry) => /^\d+$/.test(entry));
  for (const processId of processIds) {
    // There may be thousands of processes; this await lets other work run in between.
    const program = await fs.readFile(`/proc/${processId}/comm`, 'utf8').catch(() => undefined);
    if (program !== undefined && holds(processId, lock)) return `${program.trim()} (pid ${processId})`;
  }
  return undefined;
}

async function describeProcess(processId: number): Promise<string> {
  const program = await fs.readFile(`/proc/${processId}/comm`, 'utf8').catch(() => '');
  return `${program.trim()} (pid ${processId})`.trim();
}

/** Reads links and does not follow them, because their targets may lie on storage that hangs. */
function holds(processId: string, { name, inode, byte }: HeldLock): boolean {
  try {
    for (const fd of readdirSync(`/proc/${processId}/fd`)) {
      if (path.basename(readlinkSync(`/proc/${processId}/fd/${fd}`)) !== path.basename(name)) continue;
      for (const { groups } of readFileSync(`/proc/${processId}/fdinfo/${fd}`, 'utf8').matchAll(LOCK_LINE)) {
        const end = groups?.end === 'EOF' ? Number.POSITIVE_INFINITY : Number(groups?.end);
        if (groups?.inode === `${inode}` && Number(groups?.start) <= byte && byte <= end) return true;
      }
    }
  } catch {
    // The process has ended, has closed the file, or belongs to another user.
  }
  return false;
}
