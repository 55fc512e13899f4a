/** Ends the process even while calls hang. */

import { constants } from 'node:os';
import { exitProcess } from '../native/libc.ts';
import type { RunResult } from './run.ts';

/** Grace period for the process to end by itself. A call that hangs in a thread of the pool would keep the process for ever. */
const END_GRACE_MS = 500;

/** Shells and container runtimes report 128 + N for a process that signal N ended. */
const SIGNAL_EXIT_BASE = 128;

/**
 * Call this last: it ends the process with the exit code, or by the signal that stopped the run. The kernel ignores that signal when
 * the first process of a container sends it to itself. The exit code of such a process names the signal.
 */
export function endProcess({ exitCode, signal }: RunResult): void {
  const code = signal === undefined ? exitCode : SIGNAL_EXIT_BASE + constants.signals[signal];
  process.exitCode = code;
  // The parent sees that a signal ended the process.
  if (signal !== undefined) process.kill(process.pid, signal);
  setTimeout(() => exitProcess(code), END_GRACE_MS).unref();
}
