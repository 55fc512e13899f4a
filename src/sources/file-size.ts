/** How long a file is, or the device that stands for one. */

import type { Libc } from '../native/libc.ts';
import { blockDeviceSize } from './block-device.ts';
import type { OpenedFile } from './read-up-to.ts';
import { statOpened } from './stat-opened.ts';

/** @returns undefined for what is no regular file, or one of 2^53 bytes or more. @throws DiskliftError `SourceReadError` */
export async function regularFileSize(file: OpenedFile): Promise<number | undefined> {
  const stat = await statOpened(file);
  return stat.isFile() && stat.size <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(stat.size) : undefined;
}

/** Of a regular file or a block device. @throws DiskliftError `SourceReadError` */
export async function fileSize(file: OpenedFile, libc: Libc | undefined): Promise<number> {
  const { name, handle } = file;
  const stat = await statOpened(file);
  return stat.isBlockDevice() ? blockDeviceSize({ name, libc, fd: handle.fd, rdev: stat.rdev }) : Number(stat.size);
}
