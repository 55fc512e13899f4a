/** Whether another process writes to a disk, and what is done then. */

import { DiskliftError } from '../common/errors.ts';
import type { Libc } from '../native/libc.ts';
import type { FileSystem } from './file-systems/file-system-of.ts';
import { lockImage } from './image-locks.ts';
import { describeProcess, findLockHolder } from './lock-holder.ts';

/**
 * 'wait' and 'fail' want to know that nobody writes, and keep QEMU from it for as long as the disk is open; what cannot be known
 * is a failure. With 'wait' a disk in use is worth trying again. 'auto' is as QEMU's programs are: it refuses a disk that
 * is known to be in use, and keeps QEMU from writing where there are locks. 'allow' takes none.
 */
export type InUse = 'auto' | 'wait' | 'fail' | 'allow';

export interface OpenedFile {
  fd: number;
  name: string;
  libc: Libc | undefined;
  inode: bigint;
  isBlockDevice: boolean;
  fileSystem: Pick<FileSystem, 'type' | 'locksAreShared'>;
  writers?: WritersKnown | undefined;
}

/** What is known of writers otherwise than by locks. */
export interface WritersKnown {
  /** Nobody else can write to it: then a disk without locks is free. */
  isFree: boolean;
  /** Why that is not known, for people. */
  why?: string;
}

/** @throws DiskliftError `SourceInUse`, retryable when it is to be waited for; `InUseUnknown`; `SourceReadError` */
export async function guardAgainstWriters(file: OpenedFile, inUse: InUse): Promise<void> {
  if (inUse === 'allow') return;
  const unknown = await lockOrWhyNot(file, inUse);
  if (unknown === undefined || inUse === 'auto' || file.writers?.isFree) return;
  const reasons = [unknown, file.writers?.why].filter((why) => why !== undefined).join(', and ');
  throw new DiskliftError(
    'InUseUnknown',
    `${file.name}: ${reasons}, so nobody can tell whether it is in use; stop its VM, then read it with inUse Allow (--in-use allow)`,
  );
}

/** @returns why there is no lock, where nobody is known to be in its way */
async function lockOrWhyNot({ fd, name, libc, inode, isBlockDevice, fileSystem }: OpenedFile, inUse: InUse): Promise<string | undefined> {
  // Another node would not see them, nor this one that node's.
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
