/** A file of block hashes at a path. */

import { constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { DiskliftError, errnoOf } from '../../../common/errors.ts';
import { openError } from '../../open-error.ts';
import { closeHandle, readUpTo, regularFileSize } from '../../opened-file.ts';
import type { RangedFile } from './base-blocks.ts';
import { MAGIC } from './blocks-file.ts';

/** @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`, `InvalidRequest` for no file */
export async function openBlocksFile(path: string): Promise<RangedFile & { close(): Promise<void> }> {
  const handle = await openUnlessFifo(path).catch((error: unknown) => {
    throw openError(path, error, { missing: 'no such file of block hashes' });
  });
  const file = { handle, name: path };
  const close = () => closeHandle(handle);
  try {
    const sizeBytes = await regularFileSize(file);
    if (sizeBytes === undefined) throw new DiskliftError('InvalidRequest', `${path}: is not a regular file`);
    return { name: path, sizeBytes, readRange: (start, end) => readUpTo(file, start, end - start), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Whether the path is free, or has a file that begins as block hashes do. */
export async function isBlocksFile(path: string): Promise<boolean> {
  try {
    const file = await openBlocksFile(path);
    const bytes = await file.readRange(0, MAGIC.length, new AbortController().signal).finally(() => file.close());
    return Buffer.from(bytes).toString('latin1') === MAGIC;
  } catch (error) {
    return error instanceof DiskliftError && errnoOf(error.cause) === 'ENOENT';
  }
}

/** O_NONBLOCK: a FIFO must not wait for a writer. */
function openUnlessFifo(path: string): Promise<FileHandle> {
  return fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
}
