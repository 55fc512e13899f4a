/**
 * Locks on bytes of a file that belong to an open file, not to a process: fcntl(2) with F_OFD_SETLK and F_OFD_GETLK.
 */

import type { Libc } from './libc.ts';

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;

const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** Undefined on success; EAGAIN when another open file holds a lock. */
export type LockErrno = string | undefined;

async function set(libc: Libc, fd: number, type: number, offset: number): Promise<LockErrno> {
  return (await libc.fcntlLock(fd, F_OFD_SETLK, { type, offset, length: 1, processId: 0 })).errno;
}

/**
 * Takes a shared lock on the byte at `offset`, which need not exist. The kernel drops it when the last descriptor is
 * closed.
 */
export function lockByte(libc: Libc, fd: number, offset: number): Promise<LockErrno> {
  return set(libc, fd, F_RDLCK, offset);
}

export function unlockByte(libc: Libc, fd: number, offset: number): Promise<LockErrno> {
  return set(libc, fd, F_UNLCK, offset);
}

/** `processId` is set for a lock that belongs to a process; locks of open files do not. */
export type LockLook = 'free' | { processId?: number } | { errno: string };

/** Whether another open file or process holds a lock on the byte at `offset`. Locks taken through `fd` do not count. */
export async function lookForLock(libc: Libc, fd: number, offset: number): Promise<LockLook> {
  const { errno, lock } = await libc.fcntlLock(fd, F_OFD_GETLK, { type: F_WRLCK, offset, length: 1, processId: 0 });
  if (errno !== undefined) return { errno };
  if (lock.type === F_UNLCK) return 'free';
  return lock.processId > 0 ? { processId: lock.processId } : {};
}
