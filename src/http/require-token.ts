/** Who may see exports and metrics: whoever has a bearer token (RFC 6750) that is accepted. */

import type { NextFunction, Request, Response } from 'express';

/** @returns whether the token is accepted; the answer may be asked of another server. It may throw: then nobody gets in. */
export type Authorize = (token: string) => Promise<boolean>;

const LONGEST_TOKEN = 4096;

export function requireToken(authorize: Authorize) {
  return async (request: Request, response: Response, next: NextFunction): Promise<void> => {
    const [, token] = /^Bearer +([\w.~+/-]+=*)$/i.exec(request.headers.authorization ?? '') ?? [];
    if (token !== undefined && token.length <= LONGEST_TOKEN && (await authorize(token))) return next();
    response.set('WWW-Authenticate', 'Bearer realm="disklift"').status(401).type('text/plain').send('a bearer token is needed\n');
  };
}
