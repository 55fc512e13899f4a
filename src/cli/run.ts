/** Runs a command line and returns its exit code. Every failure is one line on standard error. */

import { setMaxListeners } from 'node:events';
import { Command, CommanderError } from 'commander';
import { systemClock } from '../common/clock.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { createLimiter } from '../common/limiter.ts';
import { printable } from '../common/text.ts';
import { packageVersion } from '../config/environment.ts';
import { loadLibc } from '../native/libc.ts';
import type { CommandContext } from '../wiring/context.ts';
import { addControllerCommand } from './commands/controller.ts';
import { addCreateCommand } from './commands/create.ts';
import { addExportCommand } from './commands/export.ts';
import { addMeasureCommand } from './commands/measure.ts';
import { addReceiveCommand } from './commands/receive.ts';
import { addSidecarCommand } from './commands/sidecar.ts';
import { addStopControllerCommand } from './commands/stop-controller.ts';
import { addStopSidecarsCommand } from './commands/stop-sidecars.ts';
import { addStreamCommand } from './commands/stream.ts';
import { addVerifyCommand } from './commands/verify.ts';
import type { RunResult } from './end.ts';

const EXIT_DONE = 0;
const EXIT_FAILED = 1;
const EXIT_UNUSABLE_ARGUMENTS = 2;
/**
 * Only this exit code makes the podFailurePolicy of a Job end the Job, because another pod could not change the
 * outcome.
 */
const EXIT_EXPORT_ENDED = 3;

/** Threads of libuv's pool that source reads never use: for writes, native calls and everything else of Node. */
const RESERVED_THREADS = 4;

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** @param threadPoolSize UV_THREADPOOL_SIZE at the start of the process */
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
    // The outcome of the export counts, because the signal came too late to change it.
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
  addVerifyCommand(program, context);
  addReceiveCommand(program, context);
  addExportCommand(program, context);
  addCreateCommand(program, context);
  addSidecarCommand(program, context);
  addControllerCommand(program, context);
  addStopControllerCommand(program, context);
  addStopSidecarsCommand(program, context);
  return program;
}

function printLine(message: string): void {
  process.stderr.write(`disklift: ${printable(message)}\n`);
}

/** @returns the exit code */
function report(error: unknown): number {
  // Commander has printed its message; help and version end with 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_DONE : EXIT_UNUSABLE_ARGUMENTS;
  if (!(error instanceof DiskliftError)) {
    process.stderr.write(`disklift: internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return EXIT_FAILED;
  }
  // A reader that stops early, such as head(1), is not an error.
  if (errnoOf(error.cause) !== 'EPIPE') printLine(error.message);
  if (error.isOutcome) return EXIT_EXPORT_ENDED;
  return error.code === 'InvalidRequest' ? EXIT_UNUSABLE_ARGUMENTS : EXIT_FAILED;
}
