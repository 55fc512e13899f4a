/** Reads an open file: its attributes, its size and its bytes. */

import fs, { type BigIntStats } from 'node:fs';
import { type FileHandle, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { abortable, throwIfAborted } from '../common/abortable.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import type { Limiter } from '../common/limiter.ts';
import { endOffset } from '../native/file-extents.ts';
import type { Libc } from '../native/libc.ts';

export interface OpenedFile {
  handle: FileHandle;
  /** For messages. */
  name: string;
}

/** fstat(2). @throws DiskliftError `SourceReadError` */
export async function statOpened({ handle, name }: OpenedFile): Promise<BigIntStats> {
  try {
    return await handle.stat({ bigint: true });
  } catch (error) {
    throw new DiskliftError(
      'SourceReadError',
      `${name}: cannot get its size and times: ${errnoOf(error) ?? error}; look at its storage`,
      error,
    );
  }
}

/** A key that is equal for all names of one file: device and inode of stat(2). */
export function fileKey({ dev, ino }: { dev: bigint; ino: bigint }): string {
  return `${dev}:${ino}`;
}

/**
 * Closes a file that was only read. Never rejects: after a read error on lost storage the close fails as well (a killed
 * FUSE daemon: ENOTCONN), and the second error must not replace the first.
 */
export async function closeHandle(handle: Pick<FileHandle, 'close'>): Promise<void> {
  await handle.close().catch(() => {});
}

/**
 * @returns undefined for anything but a regular file, and for a file of 2^53 bytes or more
 * @throws DiskliftError `SourceReadError`
 */
export async function regularFileSize(file: OpenedFile): Promise<number | undefined> {
  const stat = await statOpened(file);
  return stat.isFile() && stat.size <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(stat.size) : undefined;
}

/** The size of a regular file or a block device. @throws DiskliftError `SourceReadError` */
export async function fileSize(file: OpenedFile, libc: Libc | undefined): Promise<number> {
  const { name, handle } = file;
  const stat = await statOpened(file);
  return stat.isBlockDevice() ? blockDeviceSize({ name, libc, fd: handle.fd, rdev: stat.rdev }) : Number(stat.size);
}

export interface DeviceToMeasure {
  name: string;
  libc: Libc | undefined;
  fd: number;
  /** The device number. */
  rdev: bigint;
}

/** @throws DiskliftError `SourceReadError`, SeekError */
export async function blockDeviceSize({ name, libc, fd, rdev }: DeviceToMeasure): Promise<number> {
  return libc === undefined ? sizeFromSysfs(name, rdev) : endOffset(libc, fd);
}

/** Sizes in /sys are in sectors of 512 bytes, whatever the device's own sector size. */
const SYSFS_SECTOR_SIZE_BYTES = 512;

async function sizeFromSysfs(name: string, rdev: bigint): Promise<number> {
  const file = `/sys/dev/block/${deviceNumbers(rdev)}/size`;
  try {
    return Number.parseInt(await readFile(file, 'utf8'), 10) * SYSFS_SECTOR_SIZE_BYTES;
  } catch (error) {
    throw new DiskliftError('SourceReadError', `${name}: cannot read the size of the device from ${file}`, error);
  }
}

/** Linux device numbers, as gnu_dev_major and gnu_dev_minor split them. */
function deviceNumbers(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

export interface ReadTarget {
  fd: number;
  name: string;
  /** Shared by all sources of the process, so that reads leave threads of libuv's pool free for everything else. */
  readLimit: Limiter;
}

const readAsync = promisify(fs.read);

/** Fills `buffer`, and continues after short reads. @throws DiskliftError as {@link DiskSource.read} */
export async function readExactly(target: ReadTarget, buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    throwIfAborted(signal);
    const position = offset + done;
    const bytesRead = await target.readLimit.run(() => {
      throwIfAborted(signal);
      const read = readAsync(target.fd, buffer, done, buffer.length - done, position);
      return abortable(read, signal).catch((error: unknown) => {
        throw error instanceof DiskliftError ? error : readError(target.name, position, error);
      });
    });
    if (bytesRead.bytesRead === 0)
      throw new DiskliftError('SourceChanged', `${target.name}: ends at offset ${position}, although it was longer before`);
    done += bytesRead.bytesRead;
  }
}

/** @returns the bytes from `offset` to the file's end, `length` at most @throws DiskliftError `SourceReadError` */
export async function readUpTo({ handle, name }: OpenedFile, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  try {
    while (done < length) {
      const { bytesRead } = await handle.read(buffer, done, length - done, offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
  } catch (error) {
    throw readError(name, offset + done, error);
  }
  return buffer.subarray(0, done);
}

/** An error while `name` was read at `offset`. */
export function readError(name: string, offset: number, cause: unknown): DiskliftError {
  return new DiskliftError('SourceReadError', `${name}: cannot read at offset ${offset}: ${reasonOf(cause)}`, cause);
}

export function reasonOf(cause: unknown): string {
  return errnoOf(cause) ?? (cause instanceof Error ? cause.message : String(cause));
}
