/** Opening a disk that somebody else has named, on a volume that somebody else has filled. Nothing outside of it is ever opened. */

import { type BigIntStats, constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { pathOfDescriptor } from '../common/path-of-descriptor.ts';
import type { Libc } from '../native/libc.ts';
import { ResolveError, resolveBeneath } from '../native/resolve-beneath.ts';
import { kindOf } from './file-kind.ts';
import { openError } from './open-error.ts';
import type { VolumeDirectory } from './volume-directory.ts';

export interface PathBeneath {
  volume: VolumeDirectory;
  /** Names with slashes between them. */
  relativePath: string;
}

/**
 * Opens a regular file for reading. What is none is refused without being opened: that alone would wake the writer of a FIFO, or
 * rewind a tape.
 * @throws DiskliftError `InvalidRequest` for a path that leaves the volume, leads over a symbolic link or to no regular file,
 * `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
 */
export function openBeneath(libc: Libc | undefined, place: PathBeneath): Promise<FileHandle> {
  return within(place, async (directory, parts) => {
    await using found = await resolveBeneath(libc, directory, parts);
    const stat = await found.stat();
    if (!stat.isFile())
      throw new DiskliftError('InvalidRequest', `${nameOf(place)}: is ${kindOf(stat)}, not a disk image (a regular file)`);
    return await fs.open(pathOfDescriptor(found), constants.O_RDONLY | constants.O_NONBLOCK);
  });
}

/** stat(2) of the path, whatever its kind; does not open it. @throws DiskliftError as {@link openBeneath}, except for the file's kind */
export function statBeneath(libc: Libc | undefined, place: PathBeneath): Promise<BigIntStats> {
  return within(place, async (directory, parts) => {
    const [name] = parts;
    if (name !== undefined && parts.length === 1) return statEntry(directory, name);
    await using found = await resolveBeneath(libc, directory, parts);
    return await found.stat();
  });
}

/** A name directly in the directory crosses no other component, so one call is enough. */
async function statEntry(directory: FileHandle, name: string): Promise<BigIntStats> {
  const stat = await fs.lstat(`${pathOfDescriptor(directory)}/${name}`, { bigint: true });
  if (stat.isSymbolicLink()) throw new ResolveError('ELOOP');
  return stat;
}

async function within<T>(place: PathBeneath, task: (directory: FileHandle, parts: string[]) => Promise<T>): Promise<T> {
  const parts = partsOf(place.relativePath);
  try {
    return await place.volume.use((directory) => task(directory, parts));
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    // A link could lead out of the volume, so none is followed.
    if (errnoOf(error) === 'ELOOP')
      throw new DiskliftError(
        'InvalidRequest',
        `${nameOf(place)}: is or lies behind a symbolic link, which is not followed on a volume`,
        error,
      );
    throw openError(nameOf(place), error);
  }
}

function nameOf({ volume, relativePath }: PathBeneath): string {
  return path.join(volume.path, relativePath);
}

function partsOf(relativePath: string): string[] {
  const parts = relativePath.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0')))
    throw new DiskliftError('InvalidRequest', `${JSON.stringify(relativePath)} is not a path beneath the volume`);
  return parts;
}
