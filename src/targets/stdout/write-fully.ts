/**
 * Writes a whole buffer to a descriptor of any kind. Another process that shares the descriptor may have made it
 * non-blocking.
 */

import fs from 'node:fs';
import { promisify } from 'node:util';
import { abortable, throwIfAborted } from '../../common/abortable.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import type { Libc } from '../../native/libc.ts';
import { waitWritable } from '../../native/move.ts';

const writeAsync = promisify(fs.write);

/** The error of a write that failed when `sentBytes` had been written. */
export function writeError(sentBytes: number, cause: unknown): DiskliftError {
  const errno = errnoOf(cause) ?? String(cause);
  if (errno === 'EPIPE') return new DiskliftError('DestinationUnreachable', 'the reader of standard output has gone', cause);
  return new DiskliftError('DestinationRejected', `standard output: cannot write at byte ${sentBytes}: ${errno}`, cause);
}

/**
 * @param sentBytes number of bytes written before, for messages
 * @throws DiskliftError `DestinationUnreachable` when the reader has gone, `DestinationRejected` for every other error,
 * `Cancelled` at once; a write that blocks is then left behind.
 */
export async function writeFully(
  { fd, libc, signal }: { fd: number; libc: Libc | undefined; signal: AbortSignal },
  bytes: Uint8Array,
  sentBytes: number,
): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    throwIfAborted(signal);
    try {
      // Position null: at the descriptor's own offset, so that appending and shared descriptors work.
      const write = writeAsync(fd, bytes, done, bytes.length - done, null);
      done += (await abortable(write, signal)).bytesWritten;
    } catch (error) {
      if (error instanceof DiskliftError) throw error;
      if (errnoOf(error) !== 'EAGAIN') throw writeError(sentBytes + done, error);
      await waitWritable(libc, fd);
    }
  }
}
