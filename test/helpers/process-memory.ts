/** The resident memory of a process, as the kernel counts it. */

import { readFileSync } from 'node:fs';

/**
 * The peak in bytes, of this process by default. Not `process.resourceUsage().maxRSS`: that survives exec(2), so a
 * child's value begins with the resident memory of its parent at the fork.
 */
export function peakMemoryBytes(pid: number | 'self' = 'self'): number {
  return bytesOf(pid, 'VmHWM');
}

/** The current value in bytes. */
export function residentBytes(pid: number): number {
  return bytesOf(pid, 'VmRSS');
}

function bytesOf(pid: number | 'self', field: 'VmHWM' | 'VmRSS'): number {
  const [, kib] = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}
