/** The head of an upload's request. */

import http from 'node:http';
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
  const credentials = basicCredentials(url);
  const forProxy = way.proxy === undefined ? undefined : basicCredentials(way.proxy);
  const request = http.request({
    method,
    path: `${way.proxy === undefined ? '' : url.origin}${url.pathname}${url.search}`,
    createConnection: () => way.socket,
    setHost: false,
  });
  // The later ones win.
  const all: [string, string][] = [
    ['Host', url.host],
    ['Content-Type', 'application/octet-stream'],
    ...(credentials === undefined ? [] : [['Authorization', credentials] as [string, string]]),
    ...Object.entries(headers),
    ['Content-Length', `${sizeBytes}`],
    ...(forProxy === undefined ? [] : [['Proxy-Authorization', forProxy] as [string, string]]),
    ...(ifNoneMatch ? [['If-None-Match', '*'] as [string, string]] : []),
    ...(expectContinue ? [['Expect', '100-continue'] as [string, string]] : []),
  ];
  for (const [name, value] of all) request.setHeader(name, value);
  if (expectContinue) request.flushHeaders();
  return request;
}
