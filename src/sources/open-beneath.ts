/**
 * Opens files beneath a volume. Untrusted users choose the path and fill the volume, so nothing outside of the volume
 * is ever opened.
 */

import { type BigIntStats, constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { O_PATH, pathOfDescriptor } from '../common/path-of-descriptor.ts';
import type { Libc } from '../native/libc.ts';
import { ResolveError, resolveBeneath } from '../native/resolve-beneath.ts';
import { kindOf, openError } from './open-error.ts';
import { closeHandle } from './opened-file.ts';

/** The directory at which a volume is mounted, open while files beneath it are looked up. */
export interface VolumeDirectory {
  /** For messages. */
  path: string;
  /**
   * Runs `task` with the directory that has the path now. Concurrent tasks share one descriptor, and the last one
   * closes it. Checking hundreds of files therefore opens the directory once.
   * @throws as open(2) does, and as `task` does
   */
  use<T>(task: (directory: FileHandle) => Promise<T>): Promise<T>;
}

export function createVolumeDirectory(path: string): VolumeDirectory {
  let opened: Promise<FileHandle> | undefined;
  let userCount = 0;
  return {
    path,
    async use(task) {
      userCount += 1;
      opened ??= fs.open(path, O_PATH | constants.O_DIRECTORY);
      const shared = opened;
      try {
        return await task(await shared);
      } finally {
        userCount -= 1;
        if (userCount === 0) {
          opened = undefined;
          await shared.then(closeHandle, () => {});
        }
      }
    },
  };
}

export interface PathBeneath {
  volume: VolumeDirectory;
  /** Names with slashes between them. */
  relativePath: string;
}

/**
 * Opens a regular file for reading. Refuses other kinds without opening them: opening alone would wake the writer of a
 * FIFO, or rewind a tape.
 * @throws DiskliftError `InvalidRequest` for a path that leaves the volume, crosses a symbolic link or ends at no
 * regular file, `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
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

/**
 * stat(2) of the path, whatever its kind; does not open it.
 * @throws DiskliftError as {@link openBeneath}, except for the file's kind
 */
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
