/** What a process had resident at most. */

import { readFileSync } from 'node:fs';

/**
 * In bytes, of this process when no other is named. Not `process.resourceUsage().maxRSS`: that survives exec(2), so a child's begins with what its
 * parent had resident when it forked.
 */
export function peakMemoryBytes(pid: number | 'self' = 'self'): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}
