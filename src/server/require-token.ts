/** Permits access to exports and metrics by a bearer token (RFC 6750). */

import { createHash, timingSafeEqual } from 'node:crypto';
import fs from 'node:fs/promises';
import type { NextFunction, Request, Response } from 'express';
import { awaitStorage, type StorageWait } from '../common/await-storage.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { withinLimit } from '../common/time-limit.ts';

/**
 * `unknown`: the token belongs to nobody. `forbidden`: it does not permit this. `unavailable`: it cannot be checked
 * now.
 */
export type Verdict = 'allowed' | 'unknown' | 'forbidden' | 'unavailable';

export type Subject = 'metrics' | 'exports';

/** Judges a token, maybe by a call of another server. When it throws, access is denied. */
export type Authorize = (token: string, subject: Subject) => Promise<Verdict>;

/** Whether the token still permits access. Called from time to time for responses without end. */
export type MayStay = () => Promise<boolean>;

const MAX_TOKEN_CHARACTERS = 4096;

const REFUSALS: Readonly<Record<Exclude<Verdict, 'allowed'>, { status: number; headers: Record<string, string>; text: string }>> = {
  unknown: { status: 401, headers: { 'WWW-Authenticate': 'Bearer realm="disklift"' }, text: 'a bearer token is needed' },
  forbidden: {
    status: 403,
    headers: { 'WWW-Authenticate': 'Bearer realm="disklift", error="insufficient_scope"' },
    text: 'this token does not permit access',
  },
  unavailable: { status: 503, headers: { 'Retry-After': '5' }, text: 'the token cannot be checked now' },
};

/** @param authorize when left out, no token is needed */
export function requireToken(authorize: Authorize | undefined, subject: Subject) {
  return async (request: Request, response: Response, next: NextFunction): Promise<void> => {
    if (authorize === undefined) return next();
    const [, token] = /^Bearer +([\w.~+/-]+=*)$/i.exec(request.headers.authorization ?? '') ?? [];
    const isToken = token !== undefined && token.length <= MAX_TOKEN_CHARACTERS;
    const verdict = isToken ? await authorize(token, subject) : 'unknown';
    if (verdict === 'allowed') {
      if (isToken) response.locals.mayStay = async () => (await authorize(token, subject)) === 'allowed';
      return next();
    }
    const { status, headers, text } = REFUSALS[verdict];
    response.set(headers).status(status).type('text/plain').send(`${text}\n`);
  };
}

/** For the request of `response`; always true when no token is needed. */
export function mayStayOf(response: Response): MayStay {
  return (response.locals.mayStay as MayStay | undefined) ?? (async () => true);
}

/** Prometheus waits ten seconds for a scrape. */
const ANSWER_MS = 4000;

/**
 * Accepts the bearer token in a file, such as a mounted Secret. The file is read for each request, so a new token is
 * valid at once.
 * @throws DiskliftError `InvalidRequest` when the file has no token now; if it has none later, access is denied
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

/** One read at a time for all requests, because each read that hangs keeps a thread of the pool. */
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

/** timingSafeEqual needs inputs of one length. */
function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
