/** Opening a disk that somebody else has named, on a volume that somebody else has filled. Nothing outside of it is ever opened. */

import { constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import type { Libc } from '../native/libc.ts';
import { O_PATH, pathOfDescriptor, resolveBeneath } from '../native/resolve-beneath.ts';
import { kindOf } from './file-kind.ts';
import { openError } from './open-error.ts';

export interface PathBeneath {
  volumePath: string;
  /** Names with slashes between them. */
  relativePath: string;
}

/**
 * Opens a regular file for reading. What is none is refused without being opened: that alone would wake the writer of a FIFO, or
 * rewind a tape.
 * @throws DiskliftError `InvalidRequest` for a path that leaves the volume, leads over a symbolic link or to no regular file,
 * `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
 */
export async function openBeneath(libc: Libc | undefined, { volumePath, relativePath }: PathBeneath): Promise<FileHandle> {
  const parts = partsOf(relativePath);
  const name = path.join(volumePath, relativePath);
  try {
    await using volume = await fs.open(volumePath, O_PATH | constants.O_DIRECTORY);
    await using found = await resolveBeneath(libc, volume, parts);
    const stat = await found.stat();
    if (!stat.isFile()) throw new DiskliftError('InvalidRequest', `${name}: is ${kindOf(stat)}, not a disk image (a regular file)`);
    return await fs.open(pathOfDescriptor(found), constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    // A link could lead out of the volume, so none is followed.
    if (errnoOf(error) === 'ELOOP')
      throw new DiskliftError('InvalidRequest', `${name}: is or lies behind a symbolic link, which is not followed on a volume`, error);
    throw openError(name, error);
  }
}

function partsOf(relativePath: string): string[] {
  const parts = relativePath.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0')))
    throw new DiskliftError('InvalidRequest', `${JSON.stringify(relativePath)} is not a path beneath the volume`);
  return parts;
}
