/** From a disk that a request names to a source. */

import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import { chooseFormat } from './choose-format.ts';
import type { DiskSource } from './contract.ts';
import type { DiskFormat } from './image-tree.ts';
import { openBeneath } from './open-beneath.ts';
import { type OpenDiskOptions, openDisk, openHandle } from './open-disk.ts';
import { WHOLE_VOLUME } from './volume.ts';

export interface VolumeDisk {
  /** A directory, or a block device that is the disk. */
  volumePath: string;
  /** Relative to the volume, as {@link findDisks} gives it. */
  path: string;
  /** Auto, Raw, or what cannot be read yet. */
  format: string;
}

/** @throws DiskliftError as {@link openDisk} and {@link openBeneath}, `FormatUnsupported` */
export async function openVolumeDisk(
  { volumePath, path: relativePath, format }: VolumeDisk,
  options: OpenDiskOptions,
): Promise<DiskSource> {
  if (format !== 'Auto' && format !== 'Raw')
    throw new DiskliftError('FormatUnsupported', `${relativePath}: disks of format ${format} cannot be read yet; raw disks can`);
  if (relativePath === WHOLE_VOLUME) return openDisk(volumePath, options);
  const open = () => openBeneath(options.libc, { volumePath, relativePath });
  const name = path.join(volumePath, relativePath);
  const handle = await open();
  try {
    if (format === 'Auto') requireRaw(name, (await chooseFormat({ handle, name })).format);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return openHandle(handle, { name, reopen: open }, options);
}

function requireRaw(name: string, format: DiskFormat): void {
  if (format !== 'raw')
    throw new DiskliftError(
      'FormatUnsupported',
      `${name}: is a ${format} image, and only raw disks can be read so far; format: Raw takes it as it is`,
    );
}
