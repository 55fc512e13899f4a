/** What tells that a file has not been written to: its times, where they are to be believed. */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DiskliftError } from '../common/errors.ts';
import { refreshAttributes } from '../native/fresh-attributes.ts';
import type { Libc } from '../native/libc.ts';
import { closeHandle } from './close-handle.ts';
import type { SourceIdentity } from './contract.ts';
import type { FileSystemTraits } from './file-systems/file-system-traits.ts';
import { statOpened } from './stat-opened.ts';

export interface IdentifiedFile {
  handle: FileHandle;
  name: string;
  libc: Libc | undefined;
  fileSystem: FileSystemTraits;
  /** Opens anew what has the file's name now; left out, the identity is that of the descriptor alone. */
  reopen?: (() => Promise<FileHandle>) | undefined;
  /** What the file was when it was opened. Nothing has been read in it since, when the first report is asked for. */
  opened?: BigIntStats;
  /** Gives what has the file's name now without opening it, which does on local file systems. */
  statByName?: (() => Promise<BigIntStats>) | undefined;
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

/**
 * @returns reports the identity at each call.
 * @throws the report: DiskliftError `SourceChanged` when another file has the name, or it is being written to; `SourceReadError`
 */
export function createFileIdentity(file: IdentifiedFile): () => Promise<SourceIdentity> {
  const { name, fileSystem } = file;
  /** True when stat(2) answers with the current time, or with other wrong times. Then the times are no part of the identity. */
  let timesAreUnsteady = false;
  let isFirst = true;

  function mustWait(stat: BigIntStats, waitedMs: number): boolean {
    // The server's clock may be behind this machine's: no time then shows that a write was just now.
    const isUnknown = isFirst && waitedMs === 0 && !fileSystem.isLocal && fileSystem.timesShowWrites;
    return isUnknown || wasJustWritten(stat);
  }

  /** Waits until later writes show in the times. A tick that was waited for is enough, whatever the clocks of servers say. */
  async function settledStat(): Promise<BigIntStats> {
    // A local file has just been opened by its name: a change since then shows at the next report.
    let stat = isFirst && fileSystem.isLocal && file.opened !== undefined ? file.opened : await statNow(file);
    for (let waitedMs = 0; !timesAreUnsteady && mustWait(stat, waitedMs); ) {
      if (waitedMs >= LONGEST_WAIT_MS)
        throw new DiskliftError('SourceChanged', `${name}: is written to all the time; stop its writer and try again`);
      const tickMs = tickOf(stat);
      await delay(tickMs);
      waitedMs += tickMs;
      const before = stat;
      stat = await statNow(file);
      if (stat.mtimeNs === before.mtimeNs && stat.ctimeNs === before.ctimeNs && stat.size === before.size) break;
      timesAreUnsteady = isFirst && !fileSystem.timesShowWrites;
    }
    isFirst = false;
    return stat;
  }

  return async () => {
    const { dev, ino, size, mtimeNs, ctimeNs } = await settledStat();
    const facts = { device: `${dev}`, inode: `${ino}`, size: `${size}` };
    return timesAreUnsteady ? facts : { ...facts, mtime: `${mtimeNs}`, ctime: `${ctimeNs}` };
  };
}

function tickOf({ mtimeNs, ctimeNs }: BigIntStats): number {
  return mtimeNs % NANOSECONDS === 0n && ctimeNs % NANOSECONDS === 0n ? WHOLE_SECONDS_TICK_MS : TIMESTAMP_TICK_MS;
}

/** Or at a time that is still to come, which says nothing. */
function wasJustWritten(stat: BigIntStats): boolean {
  return Date.now() - Number(stat.ctimeMs) < tickOf(stat);
}

/** The file's times, once it is known that the name still leads to the file. */
async function statNow(file: IdentifiedFile): Promise<BigIntStats> {
  const { handle, name, libc, reopen, opened, statByName, fileSystem } = file;
  // This kernel makes every change of a local file, so there is no server to ask.
  if (fileSystem.isLocal && opened !== undefined && statByName !== undefined) return requireSameFile(opened, await statByName(), name);
  const own = await freshStat(handle, name, libc);
  if (reopen === undefined) return own;
  // A network file system asks its server when a file is opened, and may answer from its cache in between.
  const reopened = await reopen();
  try {
    return requireSameFile(own, await freshStat(reopened, name, libc), name);
  } finally {
    await closeHandle(reopened);
  }
}

function requireSameFile(own: BigIntStats, named: BigIntStats, name: string): BigIntStats {
  if (named.dev === own.dev && named.ino === own.ino) return named;
  throw new DiskliftError('SourceChanged', `${name}: is another file than the one that was opened; let its writer finish and try again`);
}

async function freshStat(handle: FileHandle, name: string, libc: Libc | undefined): Promise<BigIntStats> {
  const errno = libc === undefined ? undefined : await refreshAttributes(libc, handle.fd);
  if (errno !== undefined)
    throw new DiskliftError('SourceReadError', `${name}: its file system cannot tell whether it was written to: ${errno}`);
  return statOpened({ handle, name });
}
