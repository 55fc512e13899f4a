/** Opens a disk that a request names on a volume. */

import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import type { DiskSource } from '../sources/contract.ts';
import { createVolumeDirectory, openBeneath } from '../sources/open-beneath.ts';
import { openHandle } from '../sources/open-disk.ts';
import { closeHandle } from '../sources/opened-file.ts';
import { type ChosenFormat, chooseFormat } from './choose-format.ts';
import { WHOLE_VOLUME } from './find-disks.ts';
import { isDiskFormat } from './formats.ts';
import type { OpenImageOptions } from './open-image-disk.ts';
import { openNamedDisk } from './open-named-disk.ts';

export interface VolumeDisk {
  /** A directory, or a block device that is the disk. */
  volumePath: string;
  /** Relative to the volume, as `lookAtVolume` gives it. */
  path: string;
  /** Auto, or a name in the table of formats, in any case. */
  format: string;
}

/** @throws DiskliftError as {@link openDisk}, {@link openBeneath}, {@link chooseFormat} and {@link openImageDisk} */
export async function openVolumeDisk(disk: VolumeDisk, options: OpenImageOptions): Promise<DiskSource> {
  const { volumePath, path: relativePath } = disk;
  const stated = disk.format.toLowerCase();
  if (relativePath === WHOLE_VOLUME)
    return openNamedDisk({ path: volumePath, format: stated === 'auto' ? 'raw' : requireFormat(stated) }, options);
  const volume = createVolumeDirectory(volumePath);
  const reopen = () => openBeneath(options.libc, { volume, relativePath });
  const name = path.join(volumePath, relativePath);
  const handle = await reopen();
  const { format, isGuess } = await formatOf({ handle, name }, stated);
  if (format === 'raw') return openHandle(handle, { name, reopen }, options);
  // Loaded when it is needed: most exports start sooner without it.
  const { openImageDisk } = await import('./open-image-disk.ts');
  return openImageDisk({ handle, volumePath, relativePath, format, isGuess }, options);
}

/** Closes the handle when it fails. */
async function formatOf(file: { handle: FileHandle; name: string }, stated: string): Promise<ChosenFormat> {
  try {
    return stated === 'auto' ? await chooseFormat(file) : { format: requireFormat(stated), isGuess: false };
  } catch (error) {
    await closeHandle(file.handle);
    throw error;
  }
}

function requireFormat(name: string): ChosenFormat['format'] {
  if (isDiskFormat(name)) return name;
  throw new DiskliftError('InvalidRequest', `the format ${JSON.stringify(name)} is not known`);
}
