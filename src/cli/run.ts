/** The command line: arguments in, exit code out. Every failure is one line on standard error. */

import { setMaxListeners } from 'node:events';
import { Command, CommanderError } from 'commander';
import { systemClock } from '../common/clock.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { createLimiter } from '../common/limiter.ts';
import { printable } from '../common/text.ts';
import { packageVersion } from '../config/package-version.ts';
import { loadLibc } from '../native/libc.ts';
import type { CommandContext } from '../wiring/context.ts';
import { addCreateCommand } from './commands/create.ts';
import { addExportCommand } from './commands/export.ts';
import { addMeasureCommand } from './commands/measure.ts';
import { addReceiveCommand } from './commands/receive.ts';
import { addSidecarCommand } from './commands/sidecar.ts';
import { addStopSidecarsCommand } from './commands/stop-sidecars.ts';
import { addStreamCommand } from './commands/stream.ts';

const EXIT_DONE = 0;
const EXIT_FAILED = 1;
const EXIT_UNUSABLE_ARGUMENTS = 2;
/** The podFailurePolicy of a Job ends the Job for this exit code alone, because another pod could not change the outcome. */
const EXIT_EXPORT_ENDED = 3;

/** Threads of libuv's pool that source reads never take: for writes, native calls and everything else of Node. */
const RESERVED_THREADS = 4;

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface RunResult {
  exitCode: number;
  /** The signal that ended the run, to be sent to this process again now that everything is cleaned up. */
  signal?: NodeJS.Signals | undefined;
}

/** @param threadPoolSize UV_THREADPOOL_SIZE as the process was started with */
export async function run(argv: readonly string[], threadPoolSize: number): Promise<RunResult> {
  const controller = new AbortController();
  // A failure to write to standard error cannot be reported anywhere.
  process.stderr.on('error', () => {});
  setMaxListeners(0, controller.signal);
  let received: NodeJS.Signals | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    received = signal;
    controller.abort(new DiskliftError('Cancelled', `cancelled by ${signal}`));
  };
  for (const signal of STOP_SIGNALS) process.once(signal, onSignal);
  try {
    const context: CommandContext = {
      libc: loadLibc(),
      readLimit: createLimiter(Math.max(1, threadPoolSize - RESERVED_THREADS)),
      clock: systemClock,
      signal: controller.signal,
      warn: (message) => printLine(`warning: ${message}`),
    };
    await createProgram(context).parseAsync(argv, { from: 'user' });
    return { exitCode: EXIT_DONE };
  } catch (error) {
    const exitCode = report(error);
    // The outcome of an export says more than a signal that came too late to change it.
    return exitCode === EXIT_EXPORT_ENDED ? { exitCode } : { exitCode, signal: received };
  } finally {
    for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
  }
}

function createProgram(context: CommandContext): Command {
  const program = new Command('disklift')
    .description('Streams VM disks as qcow2 images.')
    .version(packageVersion(), '-V, --version')
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({
      outputError: (text) =>
        printLine(
          text
            .trim()
            .replace(/^error: /, '')
            .replaceAll('\n', ' '),
        ),
    });
  addStreamCommand(program, context);
  addMeasureCommand(program, context);
  addReceiveCommand(program, context);
  addExportCommand(program, context);
  addCreateCommand(program, context);
  addSidecarCommand(program, context);
  addStopSidecarsCommand(program, context);
  return program;
}

function printLine(message: string): void {
  process.stderr.write(`disklift: ${printable(message)}\n`);
}

/** @returns the exit code */
function report(error: unknown): number {
  // Commander has printed what it has to say; help and version end with 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_DONE : EXIT_UNUSABLE_ARGUMENTS;
  if (!(error instanceof DiskliftError)) {
    process.stderr.write(`disklift: internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return EXIT_FAILED;
  }
  // A reader that stops early, as head(1) does, is nobody's mistake.
  if (errnoOf(error.cause) !== 'EPIPE') printLine(error.message);
  if (error.isOutcome) return EXIT_EXPORT_ENDED;
  return error.code === 'InvalidRequest' ? EXIT_UNUSABLE_ARGUMENTS : EXIT_FAILED;
}
