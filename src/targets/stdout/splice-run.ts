/** Moving a run of data from the source's descriptor into a pipe, and waiting until the pipe's reader has it. */

import { setTimeout as delay } from 'node:timers/promises';
import { abortable, throwIfAborted } from '../../common/abortable.ts';
import type { Libc } from '../../native/libc.ts';
import { pipeState, spliceToPipe } from '../../native/pipe.ts';
import { waitWritable } from '../../native/wait-writable.ts';
import { writeError } from './write-fully.ts';

export interface SpliceRun {
  libc: Libc;
  fdIn: number;
  fdOut: number;
  sourceOffset: number;
  length: number;
  signal: AbortSignal;
  /** Called after each move with the bytes of this run moved so far. */
  onMoved(movedBytes: number): void;
}

/**
 * Moves the run, or as much of it as splice(2) takes: where it fails or meets the file's end, the rest is left to reads
 * and writes, whose errors say what is wrong.
 * @returns the bytes moved
 * @throws DiskliftError `Cancelled` at once; a move that hangs in the kernel is left behind.
 */
export async function spliceRun({ libc, fdIn, fdOut, sourceOffset, length, signal, onMoved }: SpliceRun): Promise<number> {
  let moved = 0;
  while (moved < length) {
    throwIfAborted(signal);
    const move = spliceToPipe(libc, { fdIn, fdOut, offset: sourceOffset + moved, length: length - moved });
    const result = await abortable(move, signal);
    if (result === 'full') {
      await waitWritable(libc, fdOut);
      continue;
    }
    if ('errno' in result || result.movedBytes === 0) return moved;
    moved += result.movedBytes;
    onMoved(moved);
  }
  return moved;
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
