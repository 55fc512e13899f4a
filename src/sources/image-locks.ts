/**
 * The locks by which QEMU's programs tell each other what they do with an image (QEMU, block/file-posix.c): on single
 * bytes, always shared. Byte 100 + n: I use permission n. Byte 200 + n: nobody else may use it.
 */

import { DiskliftError } from '../common/errors.ts';
import { lockByte, lookForLock, unlockByte } from '../native/file-lock.ts';
import type { Libc } from '../native/libc.ts';

const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;

const used = (permission: number) => 100 + permission;
const unshared = (permission: number) => 200 + permission;

/** As `qemu-img convert` has them for what it reads. Never a longer stretch: that would keep readers out as well. */
const OWN_BYTES = [used(CONSISTENT_READ), unshared(WRITE), unshared(RESIZE)];
const CONFLICTING_BYTES = [used(WRITE), used(RESIZE), unshared(CONSISTENT_READ)];

/** What systems without such locks answer, and those that do not let this process have any: that says nothing of the disk. */
const NO_LOCKS: ReadonlySet<string> = new Set([...['ENOLCK', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL'], ...['EACCES', 'EPERM']]);

export type ImageLock =
  | { state: 'held' }
  /** Somebody writes to it, or keeps others from reading it; `byte` is the lock in the way. */
  | { state: 'inUse'; byte: number; processId?: number | undefined }
  | { state: 'unknown'; errno: string };

/**
 * Takes the locks of a reader, which keep QEMU from beginning to write, for as long as `fd` is open. When it could not, none is
 * left. First taken and then looked: of two who come at the same time at least one sees the other.
 * @throws DiskliftError `SourceReadError`
 */
export async function lockImage(libc: Libc, fd: number, name: string): Promise<ImageLock> {
  const lock = await tryLock(libc, fd, name);
  if (lock.state !== 'held') for (const byte of OWN_BYTES) await unlockByte(libc, fd, byte);
  return lock;
}

async function tryLock(libc: Libc, fd: number, name: string): Promise<ImageLock> {
  for (const byte of OWN_BYTES) {
    const errno = await lockByte(libc, fd, byte);
    // QEMU has shared locks only; somebody else keeps everybody out.
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
