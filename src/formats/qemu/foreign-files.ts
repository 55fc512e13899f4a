/** Whether a process has opened something that it was not to open: who can write to an image may name a file in it after we have looked. */

import fs from 'node:fs/promises';
import { fileKey } from '../../sources/opened-file.ts';

export interface OpenedByProcess {
  processId: number;
  /** Of the files that it may have open, as {@link fileKey} gives them. */
  allowed: ReadonlySet<string>;
  /** It may have so many that this process has not. */
  socketCount: number;
}

/** Node has its own inherited descriptors closed on exec up to here; others come to a child by the same number. */
const LAST_CLOSED_FD = 15;

/** @returns its name in /proc, or that it is a connection; undefined when there is nothing. @throws an error with an errno when the process cannot be looked into */
export async function findForeignFile({ processId, allowed, socketCount }: OpenedByProcess): Promise<string | undefined> {
  let sockets = 0;
  for (const fd of await fs.readdir(`/proc/${processId}/fd`)) {
    const path = `/proc/${processId}/fd/${fd}`;
    const stat = await fs.stat(path, { bigint: true }).catch(() => undefined);
    // Closed meanwhile, or of no file: an eventfd.
    if (stat === undefined || !(stat.isFile() || stat.isBlockDevice() || stat.isDirectory() || stat.isSocket())) continue;
    if (allowed.has(fileKey(stat)) || (Number(fd) > LAST_CLOSED_FD && (await isOurs(fd, fileKey(stat))))) continue;
    if (!stat.isSocket()) return fs.readlink(path);
    sockets += 1;
    if (sockets > socketCount) return 'a connection';
  }
  return undefined;
}

async function isOurs(fd: string, key: string): Promise<boolean> {
  const stat = await fs.stat(`/proc/self/fd/${fd}`, { bigint: true }).catch(() => undefined);
  return stat !== undefined && fileKey(stat) === key;
}
