/** Moves bytes of a file to another descriptor without copying them into this process, and waits for room in a pipe. */

import { setTimeout as delay } from 'node:timers/promises';
import { MIB } from '../common/bytes.ts';
import type { CallResult, Libc } from './libc.ts';

const SPLICE_F_MOVE = 1;
const SPLICE_F_NONBLOCK = 2;
const SPLICE_F_MORE = 4;
const F_SETPIPE_SZ = 1031;
const POLLERR = 8;

/** Limit for an unprivileged process (/proc/sys/fs/pipe-max-size). */
const PIPE_SIZE_BYTES = 1024 * 1024;

/** Makes a pipe as large as any process may; fewer and longer moves are faster. A pipe that cannot grow works too. */
export async function enlargePipe(libc: Libc, fd: number): Promise<void> {
  await libc.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE_BYTES);
}

export interface Move {
  fdIn: number;
  fdOut: number;
  /** Offset of the first byte, in `fdIn`. */
  offset: number;
  length: number;
}

/** 'full': nothing can be moved until the reader has read. 0 bytes: the file ends at `offset`. */
export type MoveResult = { movedBytes: number } | { errno: string } | 'full';

function resultOf({ value, errno }: CallResult): MoveResult {
  if (value >= 0) return { movedBytes: value };
  return errno === 'EAGAIN' || errno === 'EINTR' ? 'full' : { errno: errno ?? 'unknown error' };
}

/** splice(2): puts up to `length` bytes into a pipe, as the file's own pages, without waiting for room in it. */
export async function moveToPipe(libc: Libc, { fdIn, fdOut, offset, length }: Move): Promise<MoveResult> {
  return resultOf(
    await libc.splice(fdIn, BigInt64Array.of(BigInt(offset)), fdOut, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE),
  );
}

/** Few calls, and short enough that an abort takes effect soon. */
const MAX_FILE_MOVE_BYTES = 32 * MIB;

/**
 * sendfile(2): copies up to `length` bytes to where the file `fdOut` stands. Not for files opened for appending
 * (EINVAL).
 */
export async function moveToFile(libc: Libc, { fdIn, fdOut, offset, length }: Move): Promise<MoveResult> {
  return resultOf(await libc.sendfile(fdOut, fdIn, BigInt64Array.of(BigInt(offset)), Math.min(length, MAX_FILE_MOVE_BYTES)));
}

/** Whether bytes wait in the pipe whose writing end is `fd`; 'broken' when it has no reader. */
export async function pipeState(libc: Libc, fd: number): Promise<'empty' | 'pending' | 'broken'> {
  const { revents } = await libc.poll(fd, 0, 0);
  if ((revents & POLLERR) !== 0) return 'broken';
  const { value } = await libc.bytesReadable(fd);
  return value === 0 ? 'empty' : 'pending';
}

const POLLOUT = 4;

/** An abort takes effect at the latest after this time. */
const SLICE_MS = 100;

/** Without poll: short enough to keep a pipe filled, long enough to leave a waiting process idle. */
const PORTABLE_SLICE_MS = 2;

/** Returns when `fd` can be written to, has an error, or a slice of time is over, whichever comes first. */
export async function waitWritable(libc: Libc | undefined, fd: number): Promise<void> {
  if (libc === undefined) await delay(PORTABLE_SLICE_MS);
  else await libc.poll(fd, POLLOUT, SLICE_MS);
}
