/** What tells that a file has not been written to: its times, where they are to be believed. */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DiskliftError } from '../common/errors.ts';
import type { SourceIdentity } from './contract.ts';

export interface IdentifiedFile {
  handle: FileHandle;
  name: string;
  /** Opens anew what has the file's name now; left out, the identity is that of the descriptor alone. */
  reopen?: (() => Promise<FileHandle>) | undefined;
}

/**
 * File systems stamp times by a clock that ticks every 1 to 10 ms. A file written within its last tick could be written
 * once more without its times changing, so the identity of such a file is only taken after the tick.
 */
const TIMESTAMP_TICK_MS = 20;

/** @throws DiskliftError `SourceChanged` when another file has the name */
export async function identityOfFile(file: IdentifiedFile): Promise<SourceIdentity> {
  const stat = await statNow(file);
  const ageMs = Date.now() - Number(stat.ctimeMs);
  if (ageMs >= 0 && ageMs < TIMESTAMP_TICK_MS) {
    await delay(TIMESTAMP_TICK_MS);
    return identityOfFile(file);
  }
  return {
    device: `${stat.dev}`,
    inode: `${stat.ino}`,
    size: `${stat.size}`,
    mtime: `${stat.mtimeNs}`,
    ctime: `${stat.ctimeNs}`,
  };
}

/**
 * A network file system asks its server when a file is opened, and may answer out of its memory in between. And another file
 * may have the name by now.
 */
async function statNow({ handle, name, reopen }: IdentifiedFile): Promise<BigIntStats> {
  const own = await handle.stat({ bigint: true });
  if (reopen === undefined) return own;
  await using reopened = await reopen();
  const stat = await reopened.stat({ bigint: true });
  if (stat.dev !== own.dev || stat.ino !== own.ino)
    throw new DiskliftError('SourceChanged', `${name}: is another file than the one that was opened; let its writer finish and try again`);
  return stat;
}
