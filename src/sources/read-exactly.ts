/** Reading a stretch of a descriptor whole or not at all. */

import fs from 'node:fs';
import { promisify } from 'node:util';
import { abortable, throwIfAborted } from '../common/abortable.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import type { Semaphore } from '../common/semaphore.ts';

const readAsync = promisify(fs.read);

export interface ReadTarget {
  fd: number;
  name: string;
  /** Shared by all sources of the process, so that reads leave threads of libuv's pool free for everything else. */
  readLimit: Semaphore;
}

/** An error while `name` was read at `offset`. */
export function readError(name: string, offset: number, cause: unknown): DiskliftError {
  return new DiskliftError('SourceReadError', `${name}: cannot read at offset ${offset}: ${reasonOf(cause)}`, cause);
}

export function reasonOf(cause: unknown): string {
  return errnoOf(cause) ?? (cause instanceof Error ? cause.message : String(cause));
}

/** Fills `buffer`, going on after short reads. @throws as {@link DiskSource.read} says */
export async function readExactly(target: ReadTarget, buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    throwIfAborted(signal);
    const position = offset + done;
    const bytesRead = await target.readLimit.run(() => {
      throwIfAborted(signal);
      const read = readAsync(target.fd, buffer, done, buffer.length - done, position);
      return abortable(read, signal).catch((error: unknown) => {
        throw error instanceof DiskliftError ? error : readError(target.name, position, error);
      });
    });
    if (bytesRead.bytesRead === 0)
      throw new DiskliftError('SourceChanged', `${target.name}: ends at offset ${position}, although it was longer before`);
    done += bytesRead.bytesRead;
  }
}
