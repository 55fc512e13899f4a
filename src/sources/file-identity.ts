/**
 * The identity of a file, which changes when the file is written to: its times, where the file system keeps them
 * reliably.
 */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DiskliftError } from '../common/errors.ts';
import { refreshAttributes } from '../native/file-cache.ts';
import type { Libc } from '../native/libc.ts';
import type { SourceIdentity } from './contract.ts';
import type { FileSystemTraits } from './file-system.ts';
import { closeHandle, statOpened } from './opened-file.ts';

export interface IdentifiedFile {
  handle: FileHandle;
  name: string;
  libc: Libc | undefined;
  fileSystem: FileSystemTraits;
  /** Opens the file that has the name now. When left out, only the descriptor determines the identity. */
  reopen?: (() => Promise<FileHandle>) | undefined;
  /** stat(2) of the file when it was opened. The caller must not read the file before the first report. */
  opened?: BigIntStats;
  /** stat(2) of the file's name without opening it; sufficient on local file systems. */
  statByName?: (() => Promise<BigIntStats>) | undefined;
}

/**
 * File systems stamp times by a clock that ticks every 1 to 10 ms. A second write within one tick leaves the times
 * unchanged, so the identity is taken only after the tick.
 */
const TIMESTAMP_TICK_MS = 20;

/**
 * Some file systems keep whole seconds only (ext4 with inodes of 128 bytes, many on object stores), and FAT keeps every
 * other one.
 */
const WHOLE_SECONDS_TICK_MS = 2000 + TIMESTAMP_TICK_MS;

const NANOSECONDS = 1_000_000_000n;

/** Limit of waiting for a writer that does not stop. */
const MAX_WAIT_MS = 6000;

/**
 * @returns a function that reports the identity at each call. It throws DiskliftError `SourceChanged` when another file
 * has the name or the file is being written to, and `SourceReadError`
 */
export function createFileIdentity(file: IdentifiedFile): () => Promise<SourceIdentity> {
  const { name, fileSystem } = file;
  /** True when stat(2) returns the current time, or other wrong times. Then the identity excludes the times. */
  let timesAreUnsteady = false;
  let isFirst = true;

  function mustWait(stat: BigIntStats, waitedMs: number): boolean {
    // The server's clock may be behind this machine's, so no timestamp shows that a write has just happened.
    const isUnknown = isFirst && waitedMs === 0 && !fileSystem.isLocal && fileSystem.timesShowWrites;
    return isUnknown || wasJustWritten(stat);
  }

  /**
   * Waits until a later write would change the times. One tick of waiting is enough, even if the server's clock
   * differs.
   */
  async function settledStat(): Promise<BigIntStats> {
    // A local file was opened by its name a moment ago; the next report shows a change since then.
    let stat = isFirst && fileSystem.isLocal && file.opened !== undefined ? file.opened : await statNow(file);
    for (let waitedMs = 0; !timesAreUnsteady && mustWait(stat, waitedMs); ) {
      if (waitedMs >= MAX_WAIT_MS)
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

/** True also for a time in the future, which proves nothing. */
function wasJustWritten(stat: BigIntStats): boolean {
  return Date.now() - Number(stat.ctimeMs) < tickOf(stat);
}

/** stat(2) of the file, after checking that the name still leads to it. */
async function statNow(file: IdentifiedFile): Promise<BigIntStats> {
  const { handle, name, libc, reopen, opened, statByName, fileSystem } = file;
  // Every change of a local file goes through this kernel, so no server has to be asked.
  if (fileSystem.isLocal && opened !== undefined && statByName !== undefined) return requireSameFile(opened, await statByName(), name);
  const own = await freshStat(handle, name, libc);
  if (reopen === undefined) return own;
  // A network file system queries its server when a file is opened, and may answer from its cache in between.
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
