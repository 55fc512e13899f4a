/** qemu-io uses a disk as a running VM does: it holds the locks while the disk is open. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasEnded } from './has-ended.ts';
import { runCommand } from './run-command.ts';

export interface QemuIo extends AsyncDisposable {
  process: ChildProcess;
  /** Closes the disk. */
  quit(): Promise<void>;
}

/** Starts it and waits until it has the disk open for writing. */
export async function openForWriting(diskPath: string, format = 'raw'): Promise<QemuIo> {
  const child = spawn('qemu-io', ['-f', format, diskPath], { stdio: ['pipe', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.write('length\n');
  // It answers when the disk is open.
  while (!/\n|iB/.test(output)) {
    if (hasEnded(child)) assert.fail(`qemu-io: ${output}`);
    await sleep(20);
  }
  async function quit(): Promise<void> {
    child.stdin.end('quit\n');
    await exited;
  }
  return { process: child, quit, [Symbol.asyncDispose]: quit };
}

/** Tries to write a byte. @returns the output of qemu-io, and whether it succeeded */
export async function tryToWrite(diskPath: string, format = 'raw'): Promise<{ isWritten: boolean; words: string }> {
  const { code, stdout, stderr } = await runCommand('qemu-io', ['-f', format, '-c', 'write -P 0x5a 0 512', diskPath]);
  return { isWritten: code === 0, words: `${stdout}${stderr}` };
}
