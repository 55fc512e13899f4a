/**
 * A disk that is a block device. Its page cache may be older than the device: another node may have written since a
 * page was cached. So cached pages are dropped before they are read, and there are no `places` for splice(2), which would
 * take pages from the cache.
 */

import fs from 'node:fs/promises';
import { DiskliftError } from '../common/errors.ts';
import type { Libc } from '../native/libc.ts';
import { disableReadahead, dropCachedPages } from '../native/page-cache.ts';
import { endOffset } from '../native/seek-data.ts';
import { closeHandle } from './close-handle.ts';
import type { DiskSource } from './contract.ts';
import { dataExtents } from './data-extents.ts';
import type { OpenDisk } from './raw-file.ts';
import { readExactly } from './read-exactly.ts';

/** Sizes in /sys are in sectors of 512 bytes, whatever the device's own sector size. */
const SYSFS_SECTOR_SIZE_BYTES = 512;

/** @param rdev the device number from fstat on `handle`, which the source owns from now on. */
export async function openBlockDevice({ handle, name, libc, readLimit }: OpenDisk, rdev: bigint): Promise<DiskSource> {
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
    // A device node's times say nothing about its content.
    identity: async () => ({ device: `${rdev}`, size: `${await size()}` }),
    identityMissesWrites: true,
    dispose: () => closeHandle(handle),
  };
}

export interface DeviceToMeasure {
  name: string;
  libc: Libc | undefined;
  fd: number;
  /** Its device number. */
  rdev: bigint;
}

/** @throws DiskliftError `SourceReadError`, SeekError */
export async function blockDeviceSize({ name, libc, fd, rdev }: DeviceToMeasure): Promise<number> {
  return libc === undefined ? sizeFromSysfs(name, rdev) : endOffset(libc, fd);
}

/** Linux device numbers, as gnu_dev_major and gnu_dev_minor split them. */
function deviceNumbers(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

async function sizeFromSysfs(name: string, rdev: bigint): Promise<number> {
  const file = `/sys/dev/block/${deviceNumbers(rdev)}/size`;
  try {
    return Number.parseInt(await fs.readFile(file, 'utf8'), 10) * SYSFS_SECTOR_SIZE_BYTES;
  } catch (error) {
    throw new DiskliftError('SourceReadError', `${name}: cannot tell the size of the device from ${file}`, error);
  }
}
