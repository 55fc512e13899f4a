/** The processor time of a process. */

import { readFileSync } from 'node:fs';

/** USER_HZ, the unit of times in proc(5): the same on every Linux. */
const TICKS_PER_SECOND = 100;

/** @returns the processor time of a process so far, in user mode and in the kernel: utime and stime of proc(5) */
export function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is a name in parentheses, which may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
