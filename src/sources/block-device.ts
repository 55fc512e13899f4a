/**
 * A disk that is a block device. Its page cache may be older than the device: another node may have written since a
 * page was cached. Cached pages are therefore dropped before a read, and the source has no `fileExtents`, because
 * splice(2) would take pages from the cache.
 */

import { disableReadahead, dropCachedPages } from '../native/page-cache.ts';
import type { DiskSource } from './contract.ts';
import { dataExtents } from './file-extents.ts';
import { blockDeviceSize, closeHandle, readExactly } from './opened-file.ts';
import type { OpenDisk } from './raw-file.ts';

/** @param rdev the device number from fstat on `handle`; the source owns `handle` from now on */
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
    // The times of a device node do not change when the device is written to.
    identity: async () => ({ device: `${rdev}`, size: `${await size()}` }),
    identityMissesWrites: true,
    dispose: () => closeHandle(handle),
  };
}
