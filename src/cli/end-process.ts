/** The end of the process, whatever still hangs. */

import { exitProcess } from '../native/exit-process.ts';
import type { RunResult } from './run.ts';

/** How long the process may take to end by itself. A call that hangs in a thread of the pool would keep it for ever. */
const END_GRACE_MS = 500;

/** To be called when everything has been done: ends the process with the exit code, or by the signal that stopped the run. */
export function endProcess({ exitCode, signal }: RunResult): void {
  process.exitCode = exitCode;
  // The parent sees that a signal ended the process.
  if (signal !== undefined) process.kill(process.pid, signal);
  setTimeout(() => exitProcess(exitCode), END_GRACE_MS).unref();
}
