/** Checks that standard output is open, and prints to it. */

import { fstatSync, readFileSync } from 'node:fs';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit } from '../common/time-limit.ts';
import { writeFully } from '../targets/stdout/write-fully.ts';
import type { CommandContext } from '../wiring/context.ts';
import { STDOUT_FD } from '../wiring/stream.ts';

/** Linux: null(4) is the character device 1:3. */
const NULL_DEVICE = 0x103;
const O_ACCMODE = 3;
const O_RDWR = 2;

/** Grace period after a signal while the reader of standard output does not read. */
const FAREWELL_MS = 500;

/**
 * Refuses to run with standard output closed (`>&-`). Node opens /dev/null in its place for reading and writing, so all
 * output would be lost. `> /dev/null` opens it for writing only, and is allowed. Programs that pass /dev/null opened
 * both ways (Python's DEVNULL, Node's 'ignore') are refused too: the kernel keeps nothing that tells such a descriptor
 * from Node's own.
 * @throws DiskliftError `InvalidRequest`
 */
export function requireOpenStdout(): void {
  if (fstatSync(STDOUT_FD).rdev !== NULL_DEVICE || !isReadWrite(STDOUT_FD)) return;
  throw new DiskliftError(
    'InvalidRequest',
    'standard output is closed; redirect it to a file or a pipe, or to /dev/null opened for writing only (opened both ways it counts as closed)',
  );
}

function isReadWrite(fd: number): boolean {
  try {
    const [, flags = '0'] = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
    return (Number.parseInt(flags, 8) & O_ACCMODE) === O_RDWR;
  } catch {
    // Not Linux, or /proc is not mounted.
    return false;
  }
}

/**
 * @throws DiskliftError when the text cannot be written: `DestinationUnreachable` when the reader has gone, else
 * `DestinationRejected`
 */
export async function printOutput(text: string, { libc, clock, signal }: Pick<CommandContext, 'libc' | 'clock' | 'signal'>): Promise<void> {
  const expired = new DiskliftError('Cancelled', 'standard output takes nothing');
  const limit = startTimeLimit({ clock, limitMs: FAREWELL_MS, expired, after: signal });
  try {
    await writeFully({ fd: STDOUT_FD, libc, signal: limit.signal }, Buffer.from(text), 0);
  } finally {
    limit.stop();
  }
}
