/** `disklift receive` as a process of its own. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { type CommandResult, readAll } from './run-command.ts';

const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');

export interface ReceiverProcess extends AsyncDisposable {
  port: number;
  /** The address that it printed. */
  address: string;
  kill(signal: NodeJS.Signals): void;
  ended: Promise<CommandResult>;
  /** Standard error so far. */
  stderr(): string;
}

/** Resolves when it listens. @param args beside `receive --listen 127.0.0.1:0` */
export async function startReceiver(args: readonly string[], listen = '127.0.0.1:0'): Promise<ReceiverProcess> {
  const child = spawn(process.execPath, [BIN, 'receive', '--listen', listen, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const { ended, listening, stderr } = watch(child);
  const address = await listening;
  return {
    port: Number(/\d+$/.exec(address)?.[0]),
    address,
    kill: (signal) => void child.kill(signal),
    ended,
    stderr,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

function watch(child: ChildProcess) {
  let text = '';
  const listening = new Promise<string>((resolve, reject) => {
    child.stderr?.on('data', (bytes: Buffer) => {
      text += bytes;
      const address = /^disklift: listening on (.*)\n/m.exec(text)?.[1];
      if (address !== undefined) resolve(address);
    });
    child.once('close', () => reject(new assert.AssertionError({ message: `does not listen: ${text}` })));
  });
  const closed = new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.once('close', (code, signal) => resolve([code, signal]));
  });
  const ended = Promise.all([readAll(child.stdout), closed]).then(([stdout, [code, signal]]) => ({ code, signal, stdout, stderr: text }));
  return { ended, listening, stderr: () => text };
}
