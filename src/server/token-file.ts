/** A bearer token that lies in a file, as a mounted Secret. */

import { createHash, timingSafeEqual } from 'node:crypto';
import fs from 'node:fs/promises';
import { awaitStorage, type StorageWait } from '../common/await-storage.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { withinLimit } from '../common/time-limit.ts';
import type { Authorize } from './require-token.ts';

/** Prometheus waits ten seconds for a scrape. */
const ANSWER_MS = 4000;

/**
 * The file is read for each request, so a new token counts at once.
 * @throws DiskliftError `InvalidRequest` when there is no token now; later that lets nobody in
 */
export async function authorizeByFile(file: string, wait: StorageWait): Promise<Authorize> {
  if ((await awaitStorage(file, readToken(file), wait)) === '')
    throw new DiskliftError('InvalidRequest', `${file}: is empty; a token is expected`);
  const readOnce = createSharedRead(() => readToken(file).catch(() => ''));
  return async (token) => {
    let expected: string;
    try {
      expected = await withinLimit(readOnce(), { ...wait, limitMs: ANSWER_MS, late: () => new DiskliftError('InvalidRequest', 'late') });
    } catch {
      return 'unavailable';
    }
    return expected !== '' && timingSafeEqual(digestOf(expected), digestOf(token)) ? 'allowed' : 'unknown';
  };
}

/** Dead storage gets one read, however many requests come: each read that hangs keeps a thread of the pool. */
function createSharedRead(read: () => Promise<string>): () => Promise<string> {
  let reading: Promise<string> | undefined;
  return () => {
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
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
