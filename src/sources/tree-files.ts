/** What the files of an image are, and what must not change of them from before they are first looked into to the end of an export. */

import type { BigIntStats } from 'node:fs';
import { DiskliftError } from '../common/errors.ts';
import type { SourceIdentity } from './contract.ts';
import { identityOfFile } from './file-identity.ts';
import type { ImageFile } from './image-tree.ts';

export interface TreeFile {
  file: ImageFile;
  stat: BigIntStats;
  /** Taken before anything was read that says what it refers to. */
  identity: SourceIdentity;
}

export async function lookAtFile(file: ImageFile): Promise<TreeFile> {
  const stat = await file.handle.stat({ bigint: true });
  return { file, stat, identity: await identityOf(file, stat) };
}

/** Facts of all files, numbered: who writes to a backing file changes the disk as well. @throws DiskliftError `SourceChanged` */
export async function identityOfFiles(files: readonly TreeFile[]): Promise<SourceIdentity> {
  const facts: Record<string, string> = {};
  for (const [index, { file, stat, identity: before }] of files.entries()) {
    for (const [fact, value] of Object.entries(await identityOf(file, stat))) {
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

/** A device node's times say nothing about its content. */
async function identityOf(file: ImageFile, stat: BigIntStats): Promise<SourceIdentity> {
  return stat.isBlockDevice() ? { device: `${stat.rdev}` } : identityOfFile(file);
}
