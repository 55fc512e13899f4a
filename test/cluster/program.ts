/** Programs that a test runs beside itself and that end with it, whatever happens. */

import { type ChildProcess, spawn } from 'node:child_process';
import { readAll } from '../helpers/run-command.ts';

export interface Program {
  child: ChildProcess;
  /** Its output; resolves when it has ended. */
  log: Promise<Buffer>;
}

/** How long a program may take to end by itself. */
const END_LIMIT_MS = 5000;

/** @param logFile a descriptor that the program writes to in place of a pipe that is read to its end */
export function startProgram(program: string, args: readonly string[], logFile?: number): Program {
  // If the test run is killed, the kernel ends the programs, where setpriv can request that.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { stdio: ['ignore', logFile ?? 'ignore', logFile ?? 'pipe'] });
  // If the child writes to a file, `log` is empty and waits for its end only.
  const ended = new Promise<Buffer>((resolve) => child.once('close', () => resolve(Buffer.alloc(0))));
  return { child, log: logFile === undefined ? readAll(child.stderr) : ended };
}

export async function endProgram({ child, log }: Program): Promise<void> {
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), END_LIMIT_MS);
  await log;
  clearTimeout(killer);
}
