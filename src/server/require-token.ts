/** Who may see exports and metrics: whoever has a bearer token (RFC 6750) that is accepted. */

import type { NextFunction, Request, Response } from 'express';

/** `unknown`: the token is nobody's. `forbidden`: who has it may not see this. `unavailable`: nobody can tell now. */
export type Verdict = 'allowed' | 'unknown' | 'forbidden' | 'unavailable';

export type Subject = 'metrics' | 'exports';

/** What is to be said to who has `token`; the answer may be asked of another server. It may throw: then nobody gets in. */
export type Authorize = (token: string, subject: Subject) => Promise<Verdict>;

/** Whether who was let in would be let in now. An answer that takes long asks that from time to time. */
export type MayStay = () => Promise<boolean>;

const LONGEST_TOKEN = 4096;

const REFUSALS: Readonly<Record<Exclude<Verdict, 'allowed'>, { status: number; headers: Record<string, string>; text: string }>> = {
  unknown: { status: 401, headers: { 'WWW-Authenticate': 'Bearer realm="disklift"' }, text: 'a bearer token is needed' },
  forbidden: {
    status: 403,
    headers: { 'WWW-Authenticate': 'Bearer realm="disklift", error="insufficient_scope"' },
    text: 'who has this token may not see this',
  },
  unavailable: { status: 503, headers: { 'Retry-After': '5' }, text: 'whose this token is cannot be told now' },
};

/** @param authorize everybody gets in when left out */
export function requireToken(authorize: Authorize | undefined, subject: Subject) {
  return async (request: Request, response: Response, next: NextFunction): Promise<void> => {
    if (authorize === undefined) return next();
    const [, token] = /^Bearer +([\w.~+/-]+=*)$/i.exec(request.headers.authorization ?? '') ?? [];
    const isToken = token !== undefined && token.length <= LONGEST_TOKEN;
    const verdict = isToken ? await authorize(token, subject) : 'unknown';
    if (verdict === 'allowed') {
      if (isToken) response.locals.mayStay = async () => (await authorize(token, subject)) === 'allowed';
      return next();
    }
    const { status, headers, text } = REFUSALS[verdict];
    response.set(headers).status(status).type('text/plain').send(`${text}\n`);
  };
}

/** Of the request that `response` answers; everybody may stay where no token is needed. */
export function mayStayOf(response: Response): MayStay {
  return (response.locals.mayStay as MayStay | undefined) ?? (async () => true);
}
