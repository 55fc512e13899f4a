/** qemu-io, which takes a disk as a running VM does: its locks are held for as long as it has it open. */

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
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stdin.write('length\n');
  // It answers when the disk is open.
  while (!/\n|iB/.test(said)) {
    if (hasEnded(child)) assert.fail(`qemu-io: ${said}`);
    await sleep(20);
  }
  async function quit(): Promise<void> {
    child.stdin.end('quit\n');
    await exited;
  }
  return { process: child, quit, [Symbol.asyncDispose]: quit };
}

/** Tries to write a byte. @returns what qemu-io has to say, and whether it could */
export async function tryToWrite(diskPath: string, format = 'raw'): Promise<{ isWritten: boolean; words: string }> {
  const { code, stdout, stderr } = await runCommand('qemu-io', ['-f', format, '-c', 'write -P 0x5a 0 512', diskPath]);
  return { isWritten: code === 0, words: `${stdout}${stderr}` };
}
