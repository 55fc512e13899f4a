/** The images beneath a local directory, read as those of a server are. */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../../common/errors.ts';
import type { Limiter } from '../../common/limiter.ts';
import type { Libc } from '../../native/libc.ts';
import type { SourceIdentity } from '../contract.ts';
import { createVolumeDirectory, openBeneath } from '../open-beneath.ts';
import { openPath } from '../open-disk.ts';
import { closeHandle, fileSize, readExactly, statOpened } from '../opened-file.ts';
import type { ImageFolder, NamedImage, RangedFile } from './contract.ts';

export interface LocalFolderOptions {
  libc: Libc | undefined;
  readLimit: Limiter;
}

/** @param file may be a symbolic link @param beneath a directory above it; its own directory when left out */
export function nameLocalImage(file: string, beneath: string | undefined, options: LocalFolderOptions): NamedImage {
  const directory = beneath ?? path.dirname(file);
  const rootPath = path.relative(directory, file);
  if (rootPath === '' || rootPath === '..' || rootPath.startsWith('../'))
    throw new DiskliftError('InvalidRequest', `${file}: does not lie beneath ${directory}; name a directory above it`);
  return { folder: createLocalFolder({ directory, rootPath }, options), path: rootPath };
}

function createLocalFolder(
  { directory, rootPath }: { directory: string; rootPath: string },
  { libc, readLimit }: LocalFolderOptions,
): ImageFolder {
  const handles: FileHandle[] = [];
  const volume = createVolumeDirectory(directory);
  const nameOf = (relativePath: string) => path.join(directory, relativePath);
  return {
    async open(relativePath) {
      // A file that the user has named may be a link; a file that an image names may not.
      const handle = await (relativePath === rootPath ? openPath(nameOf(rootPath)) : openBeneath(libc, { volume, relativePath }));
      handles.push(handle);
      const file = { handle, name: nameOf(relativePath) };
      return openedFile({ ...file, sizeBytes: await fileSize(file, libc), stat: await statOpened(file), readLimit });
    },
    nameOf,
    async dispose() {
      await Promise.all(handles.splice(0).map(closeHandle));
    },
  };
}

interface Opened {
  handle: FileHandle;
  name: string;
  sizeBytes: number;
  stat: BigIntStats;
  readLimit: Limiter;
}

function openedFile({ handle, name, sizeBytes, stat, readLimit }: Opened): RangedFile {
  const target = { fd: handle.fd, name, readLimit };
  return {
    name,
    sizeBytes,
    identityMissesWrites: !stat.isFile(),
    read: (buffer, offset, signal) => readExactly(target, buffer, offset, signal),
    async identity() {
      const now = identityOf(await statOpened({ handle, name }));
      if (JSON.stringify(now) !== JSON.stringify(identityOf(stat)))
        throw new DiskliftError('SourceChanged', `${name}: was written to while it was read; stop its writer and try again`);
      return now;
    },
  };
}

function identityOf({ dev, ino, size, mtimeNs }: BigIntStats): SourceIdentity {
  return { file: `${dev}:${ino}`, size: `${size}`, modified: `${mtimeNs}` };
}
