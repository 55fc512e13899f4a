/** Files that survive a crash of the process and of the machine. */

import { open, rename, unlink } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from './errors.ts';

export interface DurableContent {
  /** Or its bytes, in order. */
  text: string | AsyncIterable<Uint8Array>;
  mode: number;
}

/**
 * Replaces the file's content: writes a draft beside the file, syncs it, renames it and syncs the directory. After a
 * loss of power at any time the file has the old content or the new one. The draft always has the same name, so that
 * the next process replaces the remains of a killed one.
 * @throws as the system calls do; the file then has the old content or the new one
 */
export async function writeDurably(file: string, { text, mode }: DurableContent): Promise<void> {
  const draft = path.join(path.dirname(file), `.${path.basename(file)}.tmp`);
  await removeDraft(draft);
  {
    await using handle = await open(draft, 'wx', mode);
    await handle.writeFile(text);
    // The umask may have removed these bits at the open.
    if ((mode & 0o077) !== 0) await handle.chmod(mode);
    await handle.sync();
  }
  await rename(draft, file);
  await syncDirectoryOf(file);
}

/** A draft that is a symbolic link would lead to another file, so it is removed and not overwritten. */
async function removeDraft(draft: string): Promise<void> {
  try {
    await unlink(draft);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** Some file systems, network file systems above all, cannot sync a directory. */
const UNSUPPORTED: ReadonlySet<string | undefined> = new Set(['EINVAL', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP']);

/** Makes the file's name, or its removal, survive a loss of power where the file system can do that. */
export async function syncDirectoryOf(file: string): Promise<void> {
  await using directory = await open(path.dirname(file), 'r');
  try {
    await directory.sync();
  } catch (error) {
    if (!UNSUPPORTED.has(errnoOf(error))) throw error;
  }
}
