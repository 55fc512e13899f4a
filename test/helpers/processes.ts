/** Finds processes by /proc. */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Processes with a text in their environment, and therefore their children too. Zombies are left out. */
export function processesWith(mark: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((processId) => {
      try {
        return readFileSync(`/proc/${processId}/environ`, 'latin1').includes(mark);
      } catch {
        return false;
      }
    });
}

/** @returns processes that still run after `limitMs` */
export async function waitForNone(find: () => number[], limitMs = 5000): Promise<number[]> {
  for (const endMs = performance.now() + limitMs; performance.now() < endMs; await sleep(20)) if (find().length === 0) return [];
  return find();
}

/** Descendants of this process with a command of this name. */
export function descendantsNamed(name: string, parent = process.pid): number[] {
  const children = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((entry) => {
      try {
        // pid (comm) state ppid
        const [, comm = '', ppid = ''] = /^\d+ \((.*)\) \S (\d+)/.exec(readFileSync(`/proc/${entry}/stat`, 'utf8')) ?? [];
        return { processId: Number(entry), comm, parent: Number(ppid) };
      } catch {
        return { processId: 0, comm: '', parent: -1 };
      }
    })
    .filter((each) => each.parent === parent);
  return children.flatMap(({ processId, comm }) => [
    ...(name.startsWith(comm) && comm !== '' ? [processId] : []),
    ...descendantsNamed(name, processId),
  ]);
}
