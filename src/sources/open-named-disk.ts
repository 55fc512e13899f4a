/** From a path that a user of this machine has named to a source. */

import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import { doubtThatRaw } from './choose-format.ts';
import { closeHandle } from './close-handle.ts';
import type { DiskSource } from './contract.ts';
import type { DiskFormat } from './image-tree.ts';
import { openHandle, openPath } from './open-disk.ts';
import type { OpenImageOptions } from './open-image-disk.ts';

export interface NamedDisk {
  /** Of a regular file or a block device; may be a symbolic link. */
  path: string;
  /** Left out, the file is read as raw, with a warning where its name or its bytes say otherwise. */
  format?: DiskFormat | undefined;
  /** Files that the image names may lie anywhere beneath this directory; beneath the image's own when left out. */
  beneath?: string | undefined;
}

/**
 * What the image refers to is searched beside the name that is given, as QEMU does it, also where that is a link to a file elsewhere.
 * The image of a block device may refer to nothing.
 * @throws DiskliftError as {@link openHandle} and {@link openImageDisk}; `InvalidRequest` for an image that does not lie beneath `beneath`
 */
export async function openNamedDisk({ path: name, format, beneath }: NamedDisk, options: OpenImageOptions): Promise<DiskSource> {
  const handle = await openPath(name);
  if (format === undefined) await warnUnlessRaw({ handle, name }, options);
  if (format === undefined || format === 'raw') return openHandle(handle, { name }, options);
  // Loaded when it is needed: most commands start sooner without it.
  const { openImageDisk } = await import('./open-image-disk.ts');
  const place = await placeOf(name, beneath).catch(async (error: unknown) => {
    await closeHandle(handle);
    throw error;
  });
  return openImageDisk({ handle, ...place, reopen: () => openPath(name), adviceOutside: ADVICE_OUTSIDE, format, isGuess: false }, options);
}

/** Says nothing where the file cannot be read: whoever reads it next reports that. */
async function warnUnlessRaw(file: { handle: FileHandle; name: string }, { warn }: OpenImageOptions): Promise<void> {
  const doubt = await doubtThatRaw(file).catch(() => undefined);
  if (doubt !== undefined) warn(`${file.name}: ${doubt}`);
}

const ADVICE_OUTSIDE = 'give --beneath a directory that holds both';

interface PlaceOfImage {
  volumePath: string;
  relativePath: string;
}

async function placeOf(name: string, beneath: string | undefined): Promise<PlaceOfImage> {
  if (beneath === undefined) return { volumePath: path.dirname(name), relativePath: path.basename(name) };
  const [volumePath, directory] = await Promise.all([fs.realpath(beneath), fs.realpath(path.dirname(name))]).catch((error: unknown) => {
    throw new DiskliftError('SourceNotFound', `${beneath}: not a directory that can be opened`, error);
  });
  const relativePath = path.relative(volumePath, path.join(directory, path.basename(name)));
  if (relativePath === '..' || relativePath.startsWith('../'))
    throw new DiskliftError('InvalidRequest', `${name}: does not lie beneath ${beneath}; name a directory above it`);
  return { volumePath, relativePath };
}
