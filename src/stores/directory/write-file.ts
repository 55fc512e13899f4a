/** Files that are there whole or not at all. */

import { constants } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';

const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;

/**
 * Writes beside `file`, and renames when the bytes are on the disk. The name beside it is always the same: what a process that
 * was killed has left is written over by the next one.
 */
export async function writeFileAtomically(file: string, { text, mode }: { text: string; mode: number }): Promise<void> {
  const directory = path.dirname(file);
  const beside = path.join(directory, `.${path.basename(file)}.tmp`);
  const handle = await fs.open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
  try {
    await handle.writeFile(text);
    await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fs.rename(beside, file);
  await syncDirectory(directory);
}

/** Has the names in it survive a loss of power. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.open(directory);
  // Some file systems, those over a network above all, do not know the call.
  await handle.sync().catch(() => {});
  await handle.close();
}
