/** Opens a disk at a path that a user of this machine has named. */

import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import type { DiskSource } from '../sources/contract.ts';
import { openHandle, openPath } from '../sources/open-disk.ts';
import { closeHandle } from '../sources/opened-file.ts';
import { doubtThatRaw } from './choose-format.ts';
import type { DiskFormat } from './formats.ts';
import type { OpenImageOptions } from './open-image-disk.ts';

export interface NamedDisk {
  /** Path of a regular file or a block device; may be a symbolic link. */
  path: string;
  /** Raw when left out, with a warning where the file's name or its bytes contradict that. */
  format?: DiskFormat | undefined;
  /** Files that the image refers to must lie beneath this directory; beneath the image's own when left out. */
  beneath?: string | undefined;
}

/**
 * Resolves the names in an image against the directory of the given path, even if that path is a link to another
 * directory. QEMU does the same. An image on a block device must not refer to other files.
 * @throws DiskliftError as {@link openHandle} and {@link openImageDisk}; `InvalidRequest` for an image that does not
 * lie beneath `beneath`
 */
export async function openNamedDisk({ path: name, format, beneath }: NamedDisk, options: OpenImageOptions): Promise<DiskSource> {
  const handle = await openPath(name);
  if (format === undefined) await warnUnlessRaw({ handle, name }, options);
  if (format === undefined || format === 'raw') return openHandle(handle, { name }, options);
  // Loaded when it is needed: most commands start sooner without it.
  const { openImageDisk } = await import('./open-image-disk.ts');
  const place = await placeBeneath(name, beneath).catch(async (error: unknown) => {
    await closeHandle(handle);
    throw error;
  });
  return openImageDisk({ handle, ...place, reopen: () => openPath(name), adviceOutside: ADVICE_OUTSIDE, format, isGuess: false }, options);
}

/** Gives no warning where the file cannot be read, because the next read reports that. */
async function warnUnlessRaw(file: { handle: FileHandle; name: string }, { warn }: OpenImageOptions): Promise<void> {
  const doubt = await doubtThatRaw(file).catch(() => undefined);
  if (doubt !== undefined) warn(`${file.name}: ${doubt}`);
}

const ADVICE_OUTSIDE = 'give --beneath a directory that holds both';

interface PlaceOfImage {
  volumePath: string;
  relativePath: string;
}

async function placeBeneath(name: string, beneath: string | undefined): Promise<PlaceOfImage> {
  if (beneath === undefined) return { volumePath: path.dirname(name), relativePath: path.basename(name) };
  const [volumePath, directory] = await Promise.all([fs.realpath(beneath), fs.realpath(path.dirname(name))]).catch((error: unknown) => {
    throw new DiskliftError('SourceNotFound', `${beneath}: not a directory that can be opened`, error);
  });
  const relativePath = path.relative(volumePath, path.join(directory, path.basename(name)));
  if (relativePath === '..' || relativePath.startsWith('../'))
    throw new DiskliftError('InvalidRequest', `${name}: does not lie beneath ${beneath}; name a directory above it`);
  return { volumePath, relativePath };
}
