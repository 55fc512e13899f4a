/** Reads the present attributes of an open file. */

import type { BigIntStats } from 'node:fs';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import type { OpenedFile } from './read-up-to.ts';

/** fstat(2). @throws DiskliftError `SourceReadError` */
export async function statOpened({ handle, name }: OpenedFile): Promise<BigIntStats> {
  try {
    return await handle.stat({ bigint: true });
  } catch (error) {
    throw new DiskliftError(
      'SourceReadError',
      `${name}: cannot get its size and times: ${errnoOf(error) ?? error}; look at its storage`,
      error,
    );
  }
}
