/** `disklift sidecar` or `disklift controller` as a process of its own. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasEnded } from './has-ended.ts';

const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');

const MAX_WAIT_MS = 30_000;
const POLL_MS = 50;

export interface ServiceOptions {
  args: readonly string[];
  env?: Record<string, string> | undefined;
  /** The program that Node runs; the sources when left out. */
  program?: readonly string[] | undefined;
  /** Words before the command, of a program that executes it. */
  launcher?: readonly string[] | undefined;
  /** Text of the log line that has the port. */
  startMessage: string;
}

export interface Service extends AsyncDisposable {
  process: ChildProcess;
  /** Port of its pages, on loopback. */
  port: number;
  /** Its output so far. */
  output(): string;
  /** The lines of its log so far. */
  log(): Record<string, unknown>[];
  get(path: string): Promise<Response>;
  /** The values of a scrape, by series. */
  metrics(): Promise<Map<string, number>>;
  /** Its exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>;
  /** @returns as `ended` */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

export async function startService({ args, env = {}, program = [BIN], launcher = [], startMessage }: ServiceOptions): Promise<Service> {
  const [command = '', ...words] = [...launcher, process.execPath, ...program, ...args];
  const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const ended = exited.then(([code, signal]) => code ?? (signal as NodeJS.Signals));
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const log = () =>
    text
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals> {
    if (!hasEnded(child)) child.kill(signal);
    return ended;
  }

  let port: number | undefined;
  for (let waitedMs = 0; port === undefined; waitedMs += POLL_MS) {
    if (hasEnded(child) || waitedMs > MAX_WAIT_MS) assert.fail(`${args[0]} does not run: ${text}`);
    await sleep(POLL_MS);
    port = log().find(({ msg }) => msg === startMessage)?.port as number | undefined;
  }
  const get = (place: string) => fetch(`http://127.0.0.1:${port}${place}`);
  return {
    process: child,
    port,
    output: () => text,
    log,
    get,
    async metrics() {
      const lines = (await (await get('/metrics')).text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
    },
    ended,
    stop,
    async [Symbol.asyncDispose]() {
      await stop('SIGKILL');
    },
  };
}
