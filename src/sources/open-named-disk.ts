/** From a path that a user of this machine has named to a source. */

import fs from 'node:fs/promises';
import path from 'node:path';
import { pathOfDescriptor } from '../native/resolve-beneath.ts';
import type { DiskSource } from './contract.ts';
import type { DiskFormat } from './image-tree.ts';
import { openDisk, openPath } from './open-disk.ts';
import type { OpenImageOptions } from './open-image-disk.ts';

export interface NamedDisk {
  /** Of a regular file or a block device; may be a symbolic link. */
  path: string;
  format: DiskFormat;
}

/**
 * What the image refers to must lie in its directory or beneath it; that of a block device may refer to nothing.
 * @throws DiskliftError as {@link openDisk} and {@link openImageDisk}
 */
export async function openNamedDisk({ path: name, format }: NamedDisk, options: OpenImageOptions): Promise<DiskSource> {
  if (format === 'raw') return openDisk(name, options);
  // Loaded when it is needed: most commands start sooner without it.
  const { openImageDisk } = await import('./open-image-disk.ts');
  const handle = await openPath(name);
  // Of what has been opened, whatever the name leads to by now.
  const place = path.parse(await fs.readlink(pathOfDescriptor(handle)));
  return openImageDisk({ handle, volumePath: place.dir, relativePath: place.base, format, isGuess: false }, options);
}
