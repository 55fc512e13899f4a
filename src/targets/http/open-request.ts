/** The head of an upload's request. */

import type http from 'node:http';
import { nodeHttp } from '../../common/builtin.ts';
import { basicCredentials } from '../policy/basic-credentials.ts';
import type { OpenedConnection } from '../policy/open-connection.ts';
import type { Origin } from './redirect.ts';

export interface RequestFacts {
  origin: Origin;
  method: 'PUT' | 'POST';
  ifNoneMatch: boolean;
  /** Whether to ask before the body is sent (RFC 9110, section 10.1.1). */
  expectContinue: boolean;
  sizeBytes: number;
}

/** @returns a request whose body is still to be written; with an expectation, its head is on its way */
export function openRequest(
  { origin, method, ifNoneMatch, expectContinue, sizeBytes }: RequestFacts,
  way: OpenedConnection,
): http.ClientRequest {
  const { url, headers } = origin;
  const request = nodeHttp().request({
    method,
    path: `${way.proxy === undefined ? '' : url.origin}${url.pathname}${url.search}`,
    createConnection: () => way.socket,
    setHost: false,
  });
  const set = (name: string, value: string | undefined) => {
    if (value !== undefined) request.setHeader(name, value);
  };
  set('Host', url.host);
  set('Content-Type', 'application/octet-stream');
  set('Authorization', basicCredentials(url));
  // The caller's win over those in front, and lose against those behind.
  for (const [name, value] of Object.entries(headers)) set(name, value);
  set('Content-Length', `${sizeBytes}`);
  if (way.proxy !== undefined) set('Proxy-Authorization', basicCredentials(way.proxy));
  if (ifNoneMatch) set('If-None-Match', '*');
  if (expectContinue) {
    set('Expect', '100-continue');
    request.flushHeaders();
  }
  return request;
}
