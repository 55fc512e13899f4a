/** A bearer token that lies in a file, as a mounted Secret. */

import { createHash, timingSafeEqual } from 'node:crypto';
import fs from 'node:fs/promises';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import type { Authorize } from './require-token.ts';

/**
 * The file is read for each request, so a new token counts at once.
 * @throws DiskliftError `InvalidRequest` when there is no token now; later that lets nobody in
 */
export async function authorizeByFile(file: string): Promise<Authorize> {
  if ((await readToken(file)) === '') throw new DiskliftError('InvalidRequest', `${file}: is empty; a token is expected`);
  return async (token) => {
    const expected = await readToken(file).catch(() => '');
    return expected !== '' && timingSafeEqual(digestOf(expected), digestOf(token)) ? 'allowed' : 'unknown';
  };
}

async function readToken(file: string): Promise<string> {
  try {
    return (await fs.readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new DiskliftError('InvalidRequest', `${file}: the token cannot be read: ${errnoOf(error) ?? error}`, error);
  }
}

/** Of one length, whatever the tokens are. */
function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
