/** The files of an image, open and watched over: nobody writes to them, or it is noticed. */

import { DiskliftError } from '../common/errors.ts';
import type { Libc } from '../native/libc.ts';
import type { DiskSource } from '../sources/contract.ts';
import { guardAgainstWriters, type InUse, type WritersKnown } from '../sources/disk-in-use.ts';
import { createFileSystemLookup } from '../sources/file-system.ts';
import type { ImageTree } from './image-tree.ts';
import { type ImageRoot, openImageTree } from './open-image-tree.ts';
import { dropStalePages, identityOfFiles, lookAtFile, missesWrites, type TreeFile } from './tree-files.ts';

export interface ImageFiles extends ImageTree {
  /** In the order in which they were opened; each was looked at before anything was read in it. */
  watched: readonly TreeFile[];
}

export interface OpenImageFilesOptions {
  libc: Libc | undefined;
  /** What is done about files that another process writes to; 'allow' when left out. */
  inUse?: InUse | undefined;
  /** What is known of writers otherwise than by locks. */
  writers?: WritersKnown | undefined;
  /** Receives one-line warnings; a warning does not stop the export. */
  warn?: ((message: string) => void) | undefined;
}

/**
 * Opens the image with all that it refers to. The root's handle is theirs from now on; where there are none, it is closed.
 * @throws DiskliftError as {@link openImageTree}; `SourceInUse`, `InUseUnknown`, `SourceChanged`
 */
export async function openImageFiles(
  root: Omit<ImageRoot, 'libc' | 'onOpen' | 'warn'>,
  { libc, inUse = 'allow', writers, warn }: OpenImageFilesOptions,
): Promise<ImageFiles> {
  const watched: TreeFile[] = [];
  const fileSystemOf = createFileSystemLookup();
  const tree = await openImageTree({
    ...root,
    libc,
    ...(warn === undefined ? {} : { warn }),
    async onOpen(file) {
      const opened = await lookAtFile(file, fileSystemOf);
      const { stat, fileSystem } = opened;
      const { handle, name } = file;
      if (watched[0]?.stat.isBlockDevice())
        throw new DiskliftError('InvalidRequest', `${watched[0].file.name}: is a block device, and its image refers to a file, ${name}`);
      await guardAgainstWriters(
        { fd: handle.fd, name, libc, inode: stat.ino, isBlockDevice: stat.isBlockDevice(), fileSystem, writers },
        inUse,
      );
      await dropStalePages([opened]);
      watched.push(opened);
    },
  });
  // The files are opened concurrently, but identities are compared in one order.
  const placeOf = new Map(tree.files.map((file, index) => [file, index]));
  watched.sort((a, b) => (placeOf.get(a.file) ?? 0) - (placeOf.get(b.file) ?? 0));
  return { ...tree, watched };
}

/** What a disk's files say of it. */
export function factsOf({ root, watched }: ImageFiles): Required<Pick<DiskSource, 'format' | 'identity' | 'identityMissesWrites'>> {
  return {
    format: root.format,
    identity: () => identityOfFiles(watched),
    identityMissesWrites: missesWrites(watched),
  };
}
