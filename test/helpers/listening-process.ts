/** A server in a process of its own, which listens at a free port of 127.0.0.1. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { hasEnded } from './has-ended.ts';

export interface ListeningProcess extends AsyncDisposable {
  port: number;
  pid: number;
}

interface ServerProgram {
  command: string;
  args(port: number): string[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Whether it is ready; called when it listens. */
  isReady?(port: number): Promise<boolean>;
}

/** Debian installs some servers in sbin directories, which are not in every user's PATH. */
const PATHS = `${process.env.PATH}:/usr/sbin:/sbin`;

const MAX_START_MS = 30_000;
const MAX_ROUNDS = 3;
const MAX_STOP_MS = 2000;
const KEPT_CHARACTERS = 4000;

/** Another process may take the free port first, so the start is tried several times. */
export async function startListening(program: ServerProgram): Promise<ListeningProcess> {
  for (let round = 1; ; round += 1) {
    const result = await tryStart(program);
    if (typeof result !== 'string') return result;
    if (round === MAX_ROUNDS) throw new Error(`${program.command} does not start: ${result}`);
  }
}

/** @returns the program's output if it does not listen */
async function tryStart({ command, args, env, cwd, isReady }: ServerProgram): Promise<ListeningProcess | string> {
  const port = await freePort();
  const child = spawn(command, args(port), {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env, PATH: PATHS },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes: Buffer) => {
      output = `${output}${bytes}`.slice(-KEPT_CHARACTERS);
    });
  const ended = once(child, 'close');
  ended.catch((error: Error) => {
    output += error.message;
  });
  const stop = async () => {
    child.kill('SIGTERM');
    await Promise.race([ended, sleep(MAX_STOP_MS, undefined, { ref: false })]);
    child.kill('SIGKILL');
    await ended;
  };
  for (const endMs = performance.now() + MAX_START_MS; performance.now() < endMs && !hasEnded(child); await sleep(20))
    if ((await isListening(port)) && (isReady === undefined || (await isReady(port))) && !hasEnded(child))
      return { port, pid: child.pid as number, [Symbol.asyncDispose]: stop };
  if (!hasEnded(child)) await stop();
  return output;
}

function isListening(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  return new Promise((resolve) => {
    const done = (isUp: boolean) => {
      socket.destroy();
      resolve(isUp);
    };
    socket.once('connect', () => done(true)).once('error', () => done(false));
  });
}
