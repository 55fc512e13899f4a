/** Moving a run of data from the source's descriptor to the output's, and waiting until a pipe's reader has it. */

import { setTimeout as delay } from 'node:timers/promises';
import { abortable, throwIfAborted } from '../../common/abortable.ts';
import type { Libc } from '../../native/libc.ts';
import { type Move, type MoveResult, pipeState } from '../../native/move.ts';
import { waitWritable } from '../../native/wait-writable.ts';
import { writeError } from './write-fully.ts';

export interface RunToMove {
  fdIn: number;
  /** Of the first byte, in `fdIn`. */
  fileOffset: number;
  length: number;
  signal: AbortSignal;
  /** Called as it goes on with the bytes of this run moved so far. */
  onMoved(movedBytes: number): void;
}

export interface Way {
  libc: Libc;
  fdOut: number;
  move: (libc: Libc, move: Move) => Promise<MoveResult>;
}

/**
 * Moves the run, or as much of it as the kernel takes: where it fails or meets the file's end, the rest is left to reads
 * and writes, whose errors say what is wrong.
 * @returns the bytes moved
 * @throws DiskliftError `Cancelled` at once; a move that hangs in the kernel is left behind.
 */
export async function moveRun({ libc, fdOut, move }: Way, { fdIn, fileOffset, length, signal, onMoved }: RunToMove): Promise<number> {
  let movedBytes = 0;
  while (movedBytes < length) {
    throwIfAborted(signal);
    const pending = move(libc, { fdIn, fdOut, offset: fileOffset + movedBytes, length: length - movedBytes });
    const result = await abortable(pending, signal);
    if (result === 'full') {
      await waitWritable(libc, fdOut);
      continue;
    }
    if ('errno' in result || result.movedBytes === 0) break;
    movedBytes += result.movedBytes;
    onMoved(movedBytes);
  }
  return movedBytes;
}

export interface DrainOptions {
  libc: Libc;
  /** The pipe's writing end. */
  fd: number;
  signal: AbortSignal;
  sentBytes: number;
}

/** While the reader is slow there is no hurry. */
const LONGEST_DRAIN_DELAY_MS = 20;

/**
 * Waits until a pipe is empty. Spliced bytes are the file's own pages until the reader has copied them: only then does
 * a later change of the file not reach the reader any more.
 * @throws DiskliftError `DestinationUnreachable` when the reader has gone, `Cancelled`
 */
export async function waitDrained({ libc, fd, signal, sentBytes }: DrainOptions): Promise<void> {
  for (let delayMs = 1; ; delayMs = Math.min(delayMs * 2, LONGEST_DRAIN_DELAY_MS)) {
    throwIfAborted(signal);
    const state = await pipeState(libc, fd);
    if (state === 'empty') return;
    if (state === 'broken') throw writeError(sentBytes, Object.assign(new Error('EPIPE'), { code: 'EPIPE' }));
    await delay(delayMs);
  }
}
