/** Opens a raw disk at a path: a regular file or a block device. */

import { type BigIntStats, constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { DiskliftError } from '../common/errors.ts';
import type { Limiter } from '../common/limiter.ts';
import { disableReadahead, dropCachedPages } from '../native/file-cache.ts';
import type { Libc } from '../native/libc.ts';
import type { DiskSource } from './contract.ts';
import { guardAgainstWriters, type InUse, type WritersKnown } from './disk-in-use.ts';
import { createDataLook, dataExtents } from './file-extents.ts';
import { createFileIdentity } from './file-identity.ts';
import { type FileSystemTraits, fileSystemOf } from './file-system.ts';
import { kindOf, type OpenErrorWords, openError } from './open-error.ts';
import { blockDeviceSize, closeHandle, readExactly } from './opened-file.ts';

export interface OpenDiskOptions {
  libc: Libc | undefined;
  readLimit: Limiter;
  /** How to treat a disk that another process writes to; 'allow' when left out. */
  inUse?: InUse | undefined;
  writers?: WritersKnown | undefined;
  /** Receives one-line warnings; a warning does not stop the export. */
  warn(message: string): void;
}

/** Reading a Block volume without root depends on a setting of the node. */
const DEVICE_WORDS: OpenErrorWords = {
  denied: 'on a Block volume, the container runtime needs device_ownership_from_security_context = true',
};

function requireDisk(path: string, stat: BigIntStats): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  throw new DiskliftError('InvalidRequest', `${path}: is ${kindOf(stat)}, not a disk image (a regular file or a block device)`);
}

/**
 * Opens the raw disk at `path`, which may be a symbolic link.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`, `SourceInUse`, `InUseUnknown`.
 * `InvalidRequest` for anything that is neither a regular file nor a block device. `ImageTooLarge` for a size of 2^53
 * bytes or more.
 */
export async function openDisk(path: string, options: OpenDiskOptions): Promise<DiskSource> {
  return openHandle(await openPath(path), { name: path }, options);
}

/** Opens a regular file or a block device. @throws DiskliftError as {@link openDisk} */
export async function openPath(path: string): Promise<FileHandle> {
  let words: OpenErrorWords = {};
  try {
    const stat = await fs.stat(path, { bigint: true });
    requireDisk(path, stat);
    if (stat.isBlockDevice()) words = DEVICE_WORDS;
    // O_NONBLOCK: if a FIFO has taken the name since, opening it must not wait for a writer.
    return await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw error instanceof DiskliftError ? error : openError(path, error, words);
  }
}

export interface NamedHandle {
  name: string;
  /** Opens the file that has the name now. */
  reopen?: () => Promise<FileHandle>;
}

/** @param handle the source owns it from now on; a failure closes it @throws DiskliftError as {@link openDisk} */
export async function openHandle(handle: FileHandle, { name, reopen }: NamedHandle, options: OpenDiskOptions): Promise<DiskSource> {
  const { libc, readLimit, inUse = 'allow', writers, warn } = options;
  try {
    const stat = await handle.stat({ bigint: true });
    requireDisk(name, stat);
    const isBlockDevice = stat.isBlockDevice();
    const fileSystem = await fileSystemOf(handle);
    await guardAgainstWriters({ fd: handle.fd, name, libc, inode: stat.ino, isBlockDevice, fileSystem, writers }, inUse);
    const disk = { handle, name, libc, readLimit };
    if (!isBlockDevice) return await openRawFile({ ...disk, reopen, fileSystem }, safeSize(name, stat.size));
    if (libc === undefined) warn(`${name}: koffi is not available, so pages of the device that this node has cached are read as they are`);
    return await openBlockDevice(disk, stat.rdev);
  } catch (error) {
    await closeHandle(handle);
    throw error instanceof DiskliftError ? error : openError(name, error);
  }
}

function safeSize(path: string, size: bigint): number {
  if (size > BigInt(Number.MAX_SAFE_INTEGER))
    throw new DiskliftError('ImageTooLarge', `${path}: ${size} bytes are more than disklift can address`);
  return Number(size);
}

interface OpenedDisk {
  handle: FileHandle;
  name: string;
  libc: Libc | undefined;
  readLimit: Limiter;
}

interface OpenRawFile extends OpenedDisk {
  /** Opens the file that has the name now. When left out, only the descriptor determines the identity. */
  reopen?: (() => Promise<FileHandle>) | undefined;
  fileSystem: FileSystemTraits;
}

/**
 * A disk that lies raw in a regular file.
 * @param sizeBytes from fstat on `handle`; the source owns `handle` from now on
 */
async function openRawFile({ handle, name, libc, readLimit, reopen, fileSystem }: OpenRawFile, sizeBytes: number): Promise<DiskSource> {
  const { fd } = handle;
  const looksLikeData = createDataLook(libc);
  const dropStalePages = async () => {
    if (libc !== undefined && fileSystem.cacheGoesStale) await dropCachedPages(libc, fd, 0, 0);
  };
  await dropStalePages();

  const disk: DiskSource = {
    name,
    sizeBytes,
    ...(looksLikeData === undefined ? {} : { showsData: (offset) => looksLikeData(fd, offset) }),
    extents: (signal, holes) => dataExtents({ libc, fd, name, sizeBytes, signal, holes }),
    read: (buffer, offset, signal) => readExactly({ fd, name, readLimit }, buffer, offset, signal),
    fileExtents: (offset, length) => [{ offset, length, fd, fileOffset: offset }],
    identity: createFileIdentity({ handle, name, libc, reopen, fileSystem }),
    identityMissesWrites: !fileSystem.timesShowWrites,
    async openAgain() {
      await dropStalePages();
      return disk;
    },
    dispose: () => closeHandle(handle),
  };
  return disk;
}

/**
 * A disk that is a block device. Its page cache may be older than the device: another node may have written since a
 * page was cached. Cached pages are therefore dropped before a read, and the source has no `fileExtents`, because
 * splice(2) would take pages from the cache.
 * @param rdev the device number from fstat on `handle`; the source owns `handle` from now on
 */
async function openBlockDevice({ handle, name, libc, readLimit }: OpenedDisk, rdev: bigint): Promise<DiskSource> {
  const { fd } = handle;
  const size = () => blockDeviceSize({ name, libc, fd, rdev });
  const sizeBytes = await size();
  if (libc !== undefined) await disableReadahead(libc, fd);

  return {
    name,
    sizeBytes,
    async *extents(signal) {
      if (libc !== undefined) await dropCachedPages(libc, fd, 0, 0);
      yield* dataExtents({ libc, fd, name, sizeBytes, signal });
    },
    async read(buffer, offset, signal) {
      if (libc !== undefined) await dropCachedPages(libc, fd, offset, buffer.length);
      await readExactly({ fd, name, readLimit }, buffer, offset, signal);
    },
    // The times of a device node do not change when the device is written to.
    identity: async () => ({ device: `${rdev}`, size: `${await size()}` }),
    identityMissesWrites: true,
    dispose: () => closeHandle(handle),
  };
}
