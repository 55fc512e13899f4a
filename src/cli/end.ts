/** Ends a command, and then the process, soon after a signal, even while calls hang. */

import { constants } from 'node:os';
import { settleWithin } from '../common/time-limit.ts';
import { exitProcess } from '../native/libc.ts';
import type { CommandContext } from '../wiring/context.ts';

/** Time for a command to write its last bytes and close its files. */
const END_MS = 900;

/** Time for a command that aborts uploads: at most eight seconds for that, and the steps after it. */
export const ABANDON_MS = 9500;

/** @param graceMs time for `work` after a signal @throws the failure of `work`; the signal's reason */
export function endInTime(
  { signal, clock }: Pick<CommandContext, 'signal' | 'clock'>,
  work: () => Promise<void>,
  graceMs = END_MS,
): Promise<void> {
  return settleWithin(work(), { signal, clock, graceMs });
}

export interface RunResult {
  exitCode: number;
  /** The signal that ended the run. The process sends it to itself after the clean-up. */
  signal?: NodeJS.Signals | undefined;
}

/**
 * Grace period for the process to end by itself. A call that hangs in a thread of the pool would keep the process for
 * ever.
 */
const EXIT_GRACE_MS = 500;

/** Shells and container runtimes report 128 + N for a process that signal N ended. */
const SIGNAL_EXIT_BASE = 128;

/**
 * Call this last: it ends the process with the exit code, or by the signal that stopped the run. The kernel ignores
 * that signal when the first process of a container sends it to itself. The exit code of such a process names the
 * signal.
 */
export function endProcess({ exitCode, signal }: RunResult): void {
  const code = signal === undefined ? exitCode : SIGNAL_EXIT_BASE + constants.signals[signal];
  process.exitCode = code;
  // The parent sees that a signal ended the process.
  if (signal !== undefined) process.kill(process.pid, signal);
  setTimeout(() => exitProcess(code), EXIT_GRACE_MS).unref();
}
