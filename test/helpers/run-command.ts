/** Running programs to their end. */

import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';

export interface CommandResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

export interface CommandOptions {
  /** A descriptor or 'ignore' in place of the pipe (for Node: a socket pair) that is read to its end. */
  stdout?: number | 'ignore';
  env?: Record<string, string>;
  cwd?: string;
}

export async function readAll(stream: Readable | null): Promise<Buffer> {
  const chunks: Buffer[] = [];
  if (stream !== null) for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export async function runCommand(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const child = spawn(command, args, {
    stdio: ['ignore', options.stdout ?? 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
  });
  const ended = new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve([code, signal]));
  });
  const [stdout, stderr, [code, signal]] = await Promise.all([readAll(child.stdout), readAll(child.stderr), ended]);
  return { code, signal, stdout, stderr: stderr.toString() };
}

/** Runs a line of bash, where a failure anywhere in a pipeline counts. */
export function runShell(line: string, options: CommandOptions = {}): Promise<CommandResult> {
  return runCommand('bash', ['-o', 'pipefail', '-c', line], options);
}
