/** What a process had resident at most. */

import { readFileSync } from 'node:fs';

/**
 * Of this process, in bytes. Not `process.resourceUsage().maxRSS`: that survives exec(2), so a child's begins with what its
 * parent had resident when it forked.
 */
export function peakMemoryBytes(): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return Number(kib) * 1024;
}
