/** From a path to a source: regular files and block devices, nothing else. */

import { constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import type { Semaphore } from '../common/semaphore.ts';
import type { Libc } from '../native/libc.ts';
import { openBlockDevice } from './block-device.ts';
import type { DiskSource } from './contract.ts';
import { openRawFile } from './raw-file.ts';

export interface OpenDiskOptions {
  libc: Libc | undefined;
  readLimit: Semaphore;
  /** Takes one line about what is worth knowing but stops nothing. */
  warn(message: string): void;
}

type BigIntStats = Awaited<ReturnType<typeof statPath>>;

const statPath = (path: string) => fs.stat(path, { bigint: true });

function openError(path: string, error: unknown): DiskliftError {
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return new DiskliftError('SourceNotFound', `${path}: no such disk image`, error);
  if (errno === 'EACCES' || errno === 'EPERM')
    return new DiskliftError('SourcePermissionDenied', `${path}: permission denied; read permission is needed`, error);
  return new DiskliftError('SourceReadError', `${path}: cannot open: ${errno ?? String(error)}`, error);
}

function requireDisk(path: string, stat: BigIntStats): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  const kind = stat.isDirectory() ? 'a directory' : stat.isFIFO() ? 'a FIFO' : stat.isSocket() ? 'a socket' : 'a character device';
  throw new DiskliftError('InvalidRequest', `${path}: is ${kind}, not a disk image (a regular file or a block device)`);
}

/**
 * Opens the raw disk at `path`, which may be a symbolic link.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`, `InvalidRequest` for anything that
 * is neither a regular file nor a block device, `ImageTooLarge` for a size of 2^53 bytes or more.
 */
export async function openDisk(path: string, options: OpenDiskOptions): Promise<DiskSource> {
  let handle: FileHandle | undefined;
  try {
    requireDisk(path, await statPath(path));
    // O_NONBLOCK: should a FIFO have taken the name since, opening it must not wait for a writer.
    handle = await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await handle.stat({ bigint: true });
    requireDisk(path, stat);
    const disk = { handle, name: path, libc: options.libc, readLimit: options.readLimit };
    if (stat.isFile()) return openRawFile(disk, safeSize(path, stat.size));
    if (options.libc === undefined)
      options.warn(`${path}: koffi is not available, so pages of the device that this node has cached are read as they are`);
    return await openBlockDevice(disk, stat.rdev);
  } catch (error) {
    await handle?.close();
    throw error instanceof DiskliftError ? error : openError(path, error);
  }
}

function safeSize(path: string, size: bigint): number {
  if (size > BigInt(Number.MAX_SAFE_INTEGER))
    throw new DiskliftError('ImageTooLarge', `${path}: ${size} bytes are more than disklift can address`);
  return Number(size);
}
