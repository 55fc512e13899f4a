/** What the files of an image are, and what must not change of them from before they are first looked into to the end of an export. */

import type { BigIntStats } from 'node:fs';
import { DiskliftError } from '../common/errors.ts';
import { mapConcurrently } from '../common/map-concurrently.ts';
import { dropCachedPages } from '../native/page-cache.ts';
import type { SourceIdentity } from '../sources/contract.ts';
import { createFileIdentity } from '../sources/file-identity.ts';
import type { createFileSystemLookup, FileSystem } from '../sources/file-system.ts';
import type { ImageFile } from './image-tree.ts';

export interface TreeFile {
  file: ImageFile;
  stat: BigIntStats;
  fileSystem: FileSystem;
  /** Taken before anything was read that says what it refers to. */
  identity: SourceIdentity;
  identityNow(): Promise<SourceIdentity>;
}

/** A VMDK may have hundreds of files, and checking one file takes a dozen sequential calls. */
const LOOKS_IN_FLIGHT = 8;

/** @param fileSystemOf shared by all files of an image */
export async function lookAtFile(file: ImageFile, fileSystemOf: ReturnType<typeof createFileSystemLookup>): Promise<TreeFile> {
  const stat = file.opened;
  const fileSystem = await fileSystemOf(file.handle);
  // A device node's times say nothing about its content.
  const identityNow = stat.isBlockDevice() ? async () => ({ device: `${stat.rdev}` }) : createFileIdentity({ ...file, fileSystem });
  return { file, stat, fileSystem, identityNow, identity: await identityNow() };
}

/** Facts of all files, numbered: who writes to a backing file changes the disk as well. @throws DiskliftError `SourceChanged` */
export async function identityOfFiles(files: readonly TreeFile[]): Promise<SourceIdentity> {
  const facts: Record<string, string> = {};
  const identities = await mapConcurrently(files, LOOKS_IN_FLIGHT, ({ identityNow }) => identityNow());
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
export function missesWrites(files: readonly TreeFile[]): boolean {
  return files.some((each) => each.stat.isBlockDevice() || !each.fileSystem.timesShowWrites);
}

/** Drops cached pages that may be older than their file, so that the next reads go to the storage. */
export async function dropStalePages(files: readonly TreeFile[]): Promise<void> {
  for (const { file, stat, fileSystem } of files)
    if (file.libc !== undefined && (stat.isBlockDevice() || fileSystem.cacheGoesStale))
      await dropCachedPages(file.libc, file.handle.fd, 0, 0);
}
