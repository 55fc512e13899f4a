/** Who holds a lock, as far as this process can see: a hint for people, never a proof. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';

export interface HeldLock {
  /** The path of the file. */
  name: string;
  inode: bigint;
  byte: number;
}

/** A lock in /proc/PID/fdinfo/FD: kind, mode, owner, device:inode, first and last byte. */
const LOCK_LINE = /^lock:.* [0-9a-f]+:[0-9a-f]+:(?<inode>\d+) (?<start>\d+) (?<end>\d+|EOF)$/gm;

/** @returns such as `qemu-io (pid 17)`; undefined when the holder is on another node, in another container, or somebody else's */
export async function findLockHolder(lock: HeldLock): Promise<string | undefined> {
  const processIds = (await fs.readdir('/proc').catch(() => [])).filter((entry) => /^\d+$/.test(entry));
  for (const processId of processIds) {
    // A turn of its own for everybody else: there may be thousands.
    const program = await fs.readFile(`/proc/${processId}/comm`, 'utf8').catch(() => undefined);
    if (program !== undefined && holds(processId, lock)) return `${program.trim()} (pid ${processId})`;
  }
  return undefined;
}

export async function describeProcess(processId: number): Promise<string> {
  const program = await fs.readFile(`/proc/${processId}/comm`, 'utf8').catch(() => '');
  return `${program.trim()} (pid ${processId})`.trim();
}

/** Links are read and not followed: what they lead to may lie on storage that hangs. */
function holds(processId: string, { name, inode, byte }: HeldLock): boolean {
  try {
    for (const fd of readdirSync(`/proc/${processId}/fd`)) {
      if (path.basename(readlinkSync(`/proc/${processId}/fd/${fd}`)) !== path.basename(name)) continue;
      for (const { groups } of readFileSync(`/proc/${processId}/fdinfo/${fd}`, 'utf8').matchAll(LOCK_LINE)) {
        const end = groups?.end === 'EOF' ? Number.POSITIVE_INFINITY : Number(groups?.end);
        if (groups?.inode === `${inode}` && Number(groups?.start) <= byte && byte <= end) return true;
      }
    }
  } catch {
    // Ended meanwhile, closed meanwhile, or not ours to look at.
  }
  return false;
}
