/** Which of QEMU's programs are on PATH. */

import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from './run-command.ts';

/** The two that serve disks. */
export const QEMU_PROGRAMS = ['qemu-storage-daemon', 'qemu-nbd'] as const;

/** Makes a directory with links to real programs, for use as PATH. */
export async function linkPrograms(directory: string, names: readonly string[]): Promise<string> {
  mkdirSync(directory);
  for (const name of names) symlinkSync((await runCommand('which', [name])).stdout.toString().trim(), path.join(directory, name));
  return directory;
}

/** Makes a directory with one program: a script that begins with its interpreter line. */
export function writeProgram(directory: string, name: string, text: string): string {
  mkdirSync(directory);
  writeFileSync(path.join(directory, name), text);
  chmodSync(path.join(directory, name), 0o755);
  return directory;
}

/** Changes PATH of this process, and so of its children. */
export async function withPath<T>(value: string, run: () => Promise<T>): Promise<T> {
  const { PATH } = process.env;
  process.env.PATH = value;
  try {
    return await run();
  } finally {
    process.env.PATH = PATH;
  }
}
