/** Whether a child process runs. */

import type { ChildProcess } from 'node:child_process';

/** Also by a signal, which leaves no exit code: memory may have run out. */
export function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
