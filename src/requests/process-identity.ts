/** Telling a process from a later one with the same number. Linux has the means; elsewhere nothing is known. */

import fs from 'node:fs/promises';

export interface ProcessIdentity {
  pid: number;
  /** In clock ticks since the machine was started. */
  startTicks: string;
  /** Process numbers mean something within one namespace only; empty where that is not known. */
  pidNamespace: string;
}

/** @returns undefined for a process that is not there, or has ended and only waits to be collected */
export async function readProcess(pid: number): Promise<{ startTicks: string } | undefined> {
  const stat = await fs.readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The second field is a name in brackets and may hold anything; proc(5).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields[0] ?? '', fields[19]];
  return startTicks === undefined || ['Z', 'X'].includes(state) ? undefined : { startTicks };
}

export function isSameProcess(found: { startTicks: string } | undefined, { startTicks }: Partial<ProcessIdentity>): boolean {
  return found !== undefined && found.startTicks === startTicks;
}

export async function thisProcess(): Promise<ProcessIdentity> {
  const [found, pidNamespace] = await Promise.all([readProcess(process.pid), fs.readlink('/proc/self/ns/pid').catch(() => '')]);
  return { pid: process.pid, startTicks: found?.startTicks ?? '', pidNamespace: found === undefined ? '' : pidNamespace };
}
