/** Stops a process with SIGSTOP, and waits until it has stopped. */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Resolves when all threads of the process stand still. The signal goes to one of them, which stops the others: on a
 * busy machine these may still serve a request or two meanwhile.
 */
export async function stopProcess(processId: number): Promise<void> {
  process.kill(processId, 'SIGSTOP');
  while (!threadStates(processId).every((state) => state === 'T')) await sleep(5);
}

function threadStates(processId: number): string[] {
  return readdirSync(`/proc/${processId}/task`).map((threadId) => {
    const stat = readFileSync(`/proc/${processId}/task/${threadId}/stat`, 'utf8');
    // The fields after the name, which is in parentheses and may contain any character (proc(5)).
    return stat.slice(stat.lastIndexOf(')') + 2)[0] ?? '';
  });
}
