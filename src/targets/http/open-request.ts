/** The connection and the head of a request. */

import type http from 'node:http';
import { nodeHttp } from '../../common/builtin.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { basicCredentials } from '../../common/http-url.ts';
import { limitInterimAnswers } from '../../network/answer-limits.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import { networkError } from '../../network/network-error.ts';
import { type OpenedConnection, openConnection, type ProxySettings } from '../../network/open-connection.ts';
import { withLimit } from '../with-limit.ts';
import { type Origin, publicUrl } from './origin.ts';

export interface Way {
  origin: Origin;
  access: NetworkAccess;
  proxy: ProxySettings;
  clock: Clock;
  /** Limit of opening the connection, TLS included. */
  connectMs: number;
  signal: AbortSignal;
}

/**
 * Opens a connection, and closes it when `use` has ended.
 * @throws DiskliftError as {@link openConnection}; the failures of `use`, those of the network as
 * `DestinationUnreachable`
 */
export async function withConnection<T>(way: Way, use: (connection: OpenedConnection) => Promise<T>): Promise<T> {
  const { origin, access, proxy, clock, connectMs: limitMs, signal } = way;
  const where = publicUrl(origin);
  const connecting = new AbortController();
  const opening = openConnection({ ...origin, access, proxy, signal: connecting.signal });
  try {
    const connection = await withLimit(opening, { limitMs, message: `${where}: no connection`, clock, signal });
    return await use({ ...connection, mayQuote: connection.mayQuote && !origin.isElsewhere });
  } catch (error) {
    throw isNetworkError(error) ? networkError(where, error) : error;
  } finally {
    connecting.abort(new DiskliftError('Cancelled', 'done'));
    // This also closes a connection that opens after the caller has stopped waiting.
    opening.then(
      ({ socket }) => socket.destroy(),
      () => {},
    );
  }
}

export function isNetworkError(error: unknown): boolean {
  return !(error instanceof DiskliftError) && error instanceof Error && 'code' in error;
}

export interface RequestFacts {
  origin: Origin;
  method: 'PUT' | 'POST';
  ifNoneMatch: boolean;
  /** Whether the server must agree before the body is sent (RFC 9110, section 10.1.1). */
  expectContinue: boolean;
  sizeBytes: number;
}

/**
 * Limit of an answer's headers. With Node's 16 KiB an upload that has arrived would fail where a gateway adds long
 * headers.
 */
const MAX_HEADER_BYTES = 65_536;

/** The head of every request to a destination. The later of two equal headers wins. */
export function openHead(
  origin: Pick<Origin, 'url' | 'headers' | 'secretName'>,
  { method, defaults = {} }: { method: string; defaults?: Readonly<Record<string, string>> },
  way: OpenedConnection,
): http.ClientRequest {
  const { url, headers } = origin;
  const request = nodeHttp().request({
    method,
    path: `${way.proxy === undefined ? '' : url.origin}${url.pathname}${url.search}`,
    createConnection: () => way.socket,
    setHost: false,
    maxHeaderSize: MAX_HEADER_BYTES,
  });
  limitInterimAnswers(request, publicUrl(origin));
  const set = (name: string, value: string | undefined) => {
    if (value !== undefined) request.setHeader(name, value);
  };
  set('Host', url.host);
  for (const [name, value] of Object.entries(defaults)) set(name, value);
  set('Authorization', basicCredentials(url));
  // The caller's headers replace the defaults above, and the headers below replace the caller's.
  for (const [name, value] of Object.entries(headers)) set(name, value);
  if (way.proxy !== undefined) set('Proxy-Authorization', basicCredentials(way.proxy));
  return request;
}

/** @returns a request without its body; with an expectation, its head is already on its way */
export function openRequest(
  { origin, method, ifNoneMatch, expectContinue, sizeBytes }: RequestFacts,
  way: OpenedConnection,
): http.ClientRequest {
  const request = openHead(origin, { method, defaults: { 'Content-Type': 'application/octet-stream' } }, way);
  request.setHeader('Content-Length', `${sizeBytes}`);
  if (ifNoneMatch) request.setHeader('If-None-Match', '*');
  if (expectContinue) {
    request.setHeader('Expect', '100-continue');
    request.flushHeaders();
  }
  return request;
}

/** Headers of the connection. A caller that set them could turn one request into two, as by two lengths. */
const RESERVED: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** @throws DiskliftError `InvalidRequest`, whose message shows no value */
export function checkHeaders(headers: Readonly<Record<string, string>>): void {
  const { validateHeaderName, validateHeaderValue } = nodeHttp();
  for (const [name, value] of Object.entries(headers)) {
    if (RESERVED.has(name.toLowerCase()))
      throw new DiskliftError('InvalidRequest', `the header ${name} belongs to the connection and cannot be set`);
    try {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    } catch {
      throw new DiskliftError('InvalidRequest', `the header ${JSON.stringify(name)} has a name or a value that HTTP does not allow`);
    }
  }
}
