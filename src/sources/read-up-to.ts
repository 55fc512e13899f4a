/** Reading a piece of a file that may be shorter than what is asked for. */

import type { FileHandle } from 'node:fs/promises';
import { readError } from './read-exactly.ts';

export interface OpenedFile {
  handle: FileHandle;
  /** For messages. */
  name: string;
}

/** @returns the bytes from `offset` on: as many as there are, `length` at most. @throws DiskliftError `SourceReadError` */
export async function readUpTo({ handle, name }: OpenedFile, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  try {
    while (done < length) {
      const { bytesRead } = await handle.read(buffer, done, length - done, offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
  } catch (error) {
    throw readError(name, offset + done, error);
  }
  return buffer.subarray(0, done);
}
