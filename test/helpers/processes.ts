/** Processes as /proc shows them. */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Those that were started with a text in their environment, and so all that they have started; none that has ended and was not reaped. */
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

/** @returns those that are still there after `limitMs` */
export async function waitForNone(find: () => number[], limitMs = 5000): Promise<number[]> {
  for (const endMs = performance.now() + limitMs; performance.now() < endMs; await sleep(20)) if (find().length === 0) return [];
  return find();
}

/** The children of this process with a command of this name, and theirs. */
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
