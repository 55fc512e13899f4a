/** The files of an image, open and guarded: other processes cannot write to them, or a write is detected. */

import type { BigIntStats } from 'node:fs';
import { DiskliftError } from '../common/errors.ts';
import { mapConcurrently } from '../common/limiter.ts';
import { dropCachedPages } from '../native/file-cache.ts';
import type { Libc } from '../native/libc.ts';
import type { DiskSource, SourceIdentity } from '../sources/contract.ts';
import { guardAgainstWriters, type InUse, type WritersKnown } from '../sources/disk-in-use.ts';
import { createFileIdentity } from '../sources/file-identity.ts';
import { createFileSystemLookup, type FileSystem } from '../sources/file-system.ts';
import type { ImageFile, ImageTree } from './image-file.ts';
import { type ImageRoot, openImageTree } from './open-image-tree.ts';

export interface ImageFiles extends ImageTree {
  /** In the order of `files`. */
  watched: readonly WatchedFile[];
}

export interface WatchedFile {
  file: ImageFile;
  stat: BigIntStats;
  fileSystem: FileSystem;
  /** Taken before any read that finds names of other files. */
  identity: SourceIdentity;
  identityNow(): Promise<SourceIdentity>;
}

export interface OpenImageFilesOptions {
  libc: Libc | undefined;
  /** How to treat files that another process writes to; 'allow' when left out. */
  inUse?: InUse | undefined;
  writers?: WritersKnown | undefined;
  /** Receives one-line warnings; a warning does not stop the export. */
  warn?: ((message: string) => void) | undefined;
}

/**
 * Opens the image with all files that it refers to. The result owns the root's handle from now on; a failure closes it.
 * @throws DiskliftError as {@link openImageTree}; `SourceInUse`, `InUseUnknown`, `SourceChanged`
 */
export async function openImageFiles(
  root: Omit<ImageRoot, 'libc' | 'onOpen' | 'warn'>,
  { libc, inUse = 'allow', writers, warn }: OpenImageFilesOptions,
): Promise<ImageFiles> {
  const watched: WatchedFile[] = [];
  const fileSystemOf = createFileSystemLookup();
  const tree = await openImageTree({
    ...root,
    libc,
    ...(warn === undefined ? {} : { warn }),
    async onOpen(file) {
      const opened = await watchFile(file, fileSystemOf);
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
  const indexOf = new Map(tree.files.map((file, index) => [file, index]));
  watched.sort((a, b) => (indexOf.get(a.file) ?? 0) - (indexOf.get(b.file) ?? 0));
  return { ...tree, watched };
}

/** @param fileSystemOf shared by all files of an image */
async function watchFile(file: ImageFile, fileSystemOf: ReturnType<typeof createFileSystemLookup>): Promise<WatchedFile> {
  const stat = file.opened;
  const fileSystem = await fileSystemOf(file.handle);
  // The times of a device node do not change when the device is written to.
  const identityNow = stat.isBlockDevice() ? async () => ({ device: `${stat.rdev}` }) : createFileIdentity({ ...file, fileSystem });
  return { file, stat, fileSystem, identityNow, identity: await identityNow() };
}

/** The parts of a disk's contract that its files determine. */
export function factsOf({ root, watched }: ImageFiles): Required<Pick<DiskSource, 'format' | 'identity' | 'identityMissesWrites'>> {
  return {
    format: root.format,
    identity: () => identityOfFiles(watched),
    identityMissesWrites: missesWrites(watched),
  };
}

/** A VMDK may have hundreds of files, and checking one file takes a dozen sequential calls. */
const CHECKS_IN_FLIGHT = 8;

/**
 * Facts of all files, numbered: a write to a backing file changes the disk as well.
 * @throws DiskliftError `SourceChanged`
 */
export async function identityOfFiles(files: readonly WatchedFile[]): Promise<SourceIdentity> {
  const facts: Record<string, string> = {};
  const identities = await mapConcurrently(files, CHECKS_IN_FLIGHT, ({ identityNow }) => identityNow());
  for (const [index, { file, identity: before }] of files.entries()) {
    for (const [fact, value] of Object.entries(identities[index] as SourceIdentity)) {
      if (before[fact] !== value)
        throw new DiskliftError(
          'SourceChanged',
          `${file.name}: ${fact} has changed since it was opened; let its writer finish and try again`,
        );
      facts[`${index}.${fact}`] = value;
    }
  }
  return facts;
}

/** Whether a write to one of the files may leave its identity unchanged. */
export function missesWrites(files: readonly WatchedFile[]): boolean {
  return files.some((each) => each.stat.isBlockDevice() || !each.fileSystem.timesShowWrites);
}

/** Drops cached pages that may be older than their file, so that the next reads go to the storage. */
export async function dropStalePages(files: readonly WatchedFile[]): Promise<void> {
  for (const { file, stat, fileSystem } of files)
    if (file.libc !== undefined && (stat.isBlockDevice() || fileSystem.cacheGoesStale))
      await dropCachedPages(file.libc, file.handle.fd, 0, 0);
}
