/** Feeding a pipe from a file without the bytes passing through this process: splice(2). */

import type { Libc } from './libc.ts';

const SPLICE_F_MOVE = 1;
const SPLICE_F_NONBLOCK = 2;
const SPLICE_F_MORE = 4;
const F_SETPIPE_SZ = 1031;
const POLLERR = 8;

/** What an unprivileged process may ask for (/proc/sys/fs/pipe-max-size). */
const PIPE_SIZE_BYTES = 1024 * 1024;

/** Makes a pipe as large as anyone may; fewer and longer moves are faster. One that cannot grow works too. */
export async function enlargePipe(libc: Libc, fd: number): Promise<void> {
  await libc.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE_BYTES);
}

/** 'full': nothing can be moved until the reader has read. */
export type SpliceResult = { movedBytes: number } | { errno: string } | 'full';

/** Moves up to `length` bytes at `offset` of a file into a pipe, without waiting for room in it. */
export async function spliceToPipe(
  libc: Libc,
  { fdIn, fdOut, offset, length }: { fdIn: number; fdOut: number; offset: number; length: number },
): Promise<SpliceResult> {
  const offsetIn = BigInt64Array.of(BigInt(offset));
  const result = await libc.splice(fdIn, offsetIn, fdOut, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE);
  if (result.value >= 0) return { movedBytes: result.value };
  if (result.errno === 'EAGAIN' || result.errno === 'EINTR') return 'full';
  return { errno: result.errno ?? 'unknown error' };
}

/** Whether bytes wait in the pipe whose writing end is `fd`; 'broken' when nobody is left to read them. */
export async function pipeState(libc: Libc, fd: number): Promise<'empty' | 'pending' | 'broken'> {
  const { revents } = await libc.poll(fd, 0, 0);
  if ((revents & POLLERR) !== 0) return 'broken';
  const { value } = await libc.bytesReadable(fd);
  return value === 0 ? 'empty' : 'pending';
}
