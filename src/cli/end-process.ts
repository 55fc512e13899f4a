/** Ends the process even while calls hang. */

import { exitProcess } from '../native/exit-process.ts';
import type { RunResult } from './run.ts';

/** Grace period for the process to end by itself. A call that hangs in a thread of the pool would keep the process for ever. */
const END_GRACE_MS = 500;

/** Call this last: it ends the process with the exit code, or by the signal that stopped the run. */
export function endProcess({ exitCode, signal }: RunResult): void {
  process.exitCode = exitCode;
  // The parent sees that a signal ended the process.
  if (signal !== undefined) process.kill(process.pid, signal);
  setTimeout(() => exitProcess(exitCode), END_GRACE_MS).unref();
}
