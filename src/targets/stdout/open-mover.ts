/**
 * The fastest way that a run of data has from the source's descriptor to the output's: what it is depends on the
 * output.
 */

import fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { abortable, throwIfAborted } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import type { Libc } from '../../native/libc.ts';
import { enlargePipe, type Move, type MoveResult, moveToFile, moveToPipe, pipeState, waitWritable } from '../../native/move.ts';
import { bytesToHugePage, createTmpfsFiller, type TmpfsFiller, wholeHugePages } from './fill-tmpfs.ts';
import { writeError } from './write-fully.ts';

export interface Mover {
  /** @returns the bytes moved; the rest is for reads and writes. @throws as {@link moveRun} */
  move(run: RunToMove): Promise<number>;
  /** Waits until a change of the source does not reach what has been moved. */
  settle(signal: AbortSignal, sentBytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface MoverOptions {
  libc: Libc;
  /** Where everything goes, at the place where it stands. */
  fdOut: number;
  clock: Clock;
}

const fstat = promisify(fs.fstat);

const SEEK_SET = 0;
const SEEK_CUR = 1;

/** @returns undefined when nothing can be moved to such an output */
export async function openMover(options: MoverOptions): Promise<Mover | undefined> {
  const stat = await fstat(options.fdOut);
  if (stat.isFIFO()) return openPipeMover(options);
  if (!stat.isFile()) return undefined;
  const filler = await createTmpfsFiller({ ...options, fd: options.fdOut });
  return filler === undefined ? openFileMover(options) : openTmpfsMover(options, filler);
}

async function openPipeMover({ libc, fdOut }: MoverOptions): Promise<Mover> {
  await enlargePipe(libc, fdOut);
  let isEmpty = true;
  return {
    async move(run) {
      isEmpty = false;
      return moveRun({ libc, fdOut, move: moveToPipe }, run);
    },
    async settle(signal, sentBytes) {
      if (!isEmpty) await waitDrained({ libc, fd: fdOut, signal, sentBytes });
    },
    close: async () => {},
  };
}

function openFileMover({ libc, fdOut }: MoverOptions): Mover {
  return {
    move: (run) => moveRun({ libc, fdOut, move: moveToFile }, run),
    settle: async () => {},
    close: async () => {},
  };
}

function openTmpfsMover(options: MoverOptions, filler: TmpfsFiller): Mover {
  const { libc, fdOut } = options;
  const file = openFileMover(options);
  let isFillerOfUse = true;

  return {
    ...file,
    async move(run) {
      const { value: outputOffset } = await libc.lseek(fdOut, 0, SEEK_CUR);
      const headBytes = bytesToHugePage(outputOffset);
      const fillBytes = wholeHugePages(run.length - headBytes);
      if (!isFillerOfUse || outputOffset < 0 || fillBytes <= 0) return file.move(run);
      const movedBytes = await file.move(partOf(run, 0, headBytes));
      if (movedBytes < headBytes) return movedBytes;
      const { onMoved: onFilled, ...filling } = partOf(run, headBytes, fillBytes);
      const filledBytes = await filler.fill({ ...filling, onFilled, outputOffset: outputOffset + headBytes });
      isFillerOfUse = filledBytes === fillBytes;
      const doneBytes = headBytes + filledBytes;
      await libc.lseek(fdOut, outputOffset + doneBytes, SEEK_SET);
      return doneBytes + (await file.move(partOf(run, doneBytes, run.length - doneBytes)));
    },
    close: () => filler.close(),
  };
}

function partOf(run: RunToMove, from: number, length: number): RunToMove {
  return { ...run, fileOffset: run.fileOffset + from, length, onMoved: (movedBytes) => run.onMoved(from + movedBytes) };
}

interface RunToMove {
  fdIn: number;
  /** Offset of the first byte in `fdIn`. */
  fileOffset: number;
  length: number;
  signal: AbortSignal;
  /** Called as it goes on with the bytes of this run moved so far. */
  onMoved(movedBytes: number): void;
}

interface Way {
  libc: Libc;
  fdOut: number;
  move: (libc: Libc, move: Move) => Promise<MoveResult>;
}

/**
 * Moves the run, or as much of it as the kernel takes: where it fails or meets the file's end, the rest is left to
 * reads and writes, whose errors say what is wrong.
 * @returns the bytes moved
 * @throws DiskliftError `Cancelled` at once; a move that hangs in the kernel is left behind.
 */
async function moveRun({ libc, fdOut, move }: Way, { fdIn, fileOffset, length, signal, onMoved }: RunToMove): Promise<number> {
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

interface DrainOptions {
  libc: Libc;
  /** The pipe's writing end. */
  fd: number;
  signal: AbortSignal;
  sentBytes: number;
}

/** While the reader is slow there is no hurry. */
const MAX_DRAIN_DELAY_MS = 20;

/**
 * Waits until a pipe is empty. Spliced bytes are the file's own pages until the reader has copied them: only then does
 * a later change of the file not reach the reader any more.
 * @throws DiskliftError `DestinationUnreachable` when the reader has gone, `Cancelled`
 */
async function waitDrained({ libc, fd, signal, sentBytes }: DrainOptions): Promise<void> {
  for (let delayMs = 1; ; delayMs = Math.min(delayMs * 2, MAX_DRAIN_DELAY_MS)) {
    throwIfAborted(signal);
    const state = await pipeState(libc, fd);
    if (state === 'empty') return;
    if (state === 'broken') throw writeError(sentBytes, Object.assign(new Error('EPIPE'), { code: 'EPIPE' }));
    await delay(delayMs);
  }
}
