/** What tells that a file has not been written to: its times, where they are to be believed. */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DiskliftError } from '../common/errors.ts';
import { refreshAttributes } from '../native/fresh-attributes.ts';
import type { Libc } from '../native/libc.ts';
import type { SourceIdentity } from './contract.ts';

export interface IdentifiedFile {
  handle: FileHandle;
  name: string;
  libc: Libc | undefined;
  /** Opens anew what has the file's name now; left out, the identity is that of the descriptor alone. */
  reopen?: (() => Promise<FileHandle>) | undefined;
}

/**
 * File systems stamp times by a clock that ticks every 1 to 10 ms. A file written within its last tick could be written
 * once more without its times changing, so the identity of such a file is only taken after the tick.
 */
const TIMESTAMP_TICK_MS = 20;

/** Some keep whole seconds only (ext4 with inodes of 128 bytes, many that are made of objects), and FAT every other one. */
const WHOLE_SECONDS_TICK_MS = 2000 + TIMESTAMP_TICK_MS;

const NANOSECONDS = 1_000_000_000n;

/** Of waiting for a writer that does not stop. */
const LONGEST_WAIT_MS = 6000;

/** @throws DiskliftError `SourceChanged` when another file has the name, or it is being written to; `SourceReadError` */
export async function identityOfFile(file: IdentifiedFile): Promise<SourceIdentity> {
  let stat = await statNow(file);
  // A tick that was waited for is enough, whatever the clocks of servers say.
  for (let waitedMs = 0; wasJustWritten(stat); ) {
    if (waitedMs >= LONGEST_WAIT_MS)
      throw new DiskliftError('SourceChanged', `${file.name}: is written to all the time; stop its writer and try again`);
    const tickMs = tickOf(stat);
    await delay(tickMs);
    waitedMs += tickMs;
    const before = stat;
    stat = await statNow(file);
    if (stat.mtimeNs === before.mtimeNs && stat.ctimeNs === before.ctimeNs && stat.size === before.size) break;
  }
  return {
    device: `${stat.dev}`,
    inode: `${stat.ino}`,
    size: `${stat.size}`,
    mtime: `${stat.mtimeNs}`,
    ctime: `${stat.ctimeNs}`,
  };
}

function tickOf({ mtimeNs, ctimeNs }: BigIntStats): number {
  return mtimeNs % NANOSECONDS === 0n && ctimeNs % NANOSECONDS === 0n ? WHOLE_SECONDS_TICK_MS : TIMESTAMP_TICK_MS;
}

/** Or at a time that is still to come, which says nothing. */
function wasJustWritten(stat: BigIntStats): boolean {
  return Date.now() - Number(stat.ctimeMs) < tickOf(stat);
}

/**
 * A network file system asks its server when a file is opened, and may answer out of its memory in between. And another file
 * may have the name by now.
 */
async function statNow({ handle, name, libc, reopen }: IdentifiedFile): Promise<BigIntStats> {
  const own = await freshStat(handle, name, libc);
  if (reopen === undefined) return own;
  await using reopened = await reopen();
  const stat = await freshStat(reopened, name, libc);
  if (stat.dev !== own.dev || stat.ino !== own.ino)
    throw new DiskliftError('SourceChanged', `${name}: is another file than the one that was opened; let its writer finish and try again`);
  return stat;
}

async function freshStat(handle: FileHandle, name: string, libc: Libc | undefined): Promise<BigIntStats> {
  const errno = libc === undefined ? undefined : await refreshAttributes(libc, handle.fd);
  if (errno !== undefined)
    throw new DiskliftError('SourceReadError', `${name}: its file system cannot tell whether it was written to: ${errno}`);
  return handle.stat({ bigint: true });
}
