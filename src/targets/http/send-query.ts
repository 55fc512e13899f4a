/** Sends one request without a body on its own connection: to look up an object, or to make a collection. */

import type http from 'node:http';
import { abortable } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import { closedError } from '../../network/network-error.ts';
import type { ProxySettings } from '../../network/open-connection.ts';
import { withLimit } from '../with-limit.ts';
import { type Answer, readAnswer, singleHeaders } from './answer.ts';
import { openHead, withConnection } from './open-request.ts';
import { type Origin, publicUrl } from './origin.ts';

export interface QueryLimits {
  /** Limit of opening a connection, TLS included. */
  connectMs: number;
  /** Limit of the answer's head. */
  queryMs: number;
  /** Limit of silence between bytes. */
  idleMs: number;
}

/** The body of a 200, or of a 206 where the query asks for a range. */
export interface WantedBody {
  /** Receives the body piece by piece, and returns false when it needs no more. */
  take(bytes: Buffer, head: Pick<Answer, 'status' | 'headers'>): boolean;
  /** Limit of the whole body, however steadily its bytes come. */
  limitMs: number;
}

export interface Query {
  origin: Origin;
  method: 'HEAD' | 'GET' | 'MKCOL';
  /** Asks for these bytes only: from `start` up to `end`. A server may answer 200 with all bytes. */
  range?: { start: number; end: number } | undefined;
  access: NetworkAccess;
  proxy: ProxySettings;
  clock: Clock;
  limits: QueryLimits;
  signal: AbortSignal;
}

/**
 * @returns the answer; its text is the server's refusal, or empty where `wanted` received the body
 * @throws DiskliftError `DestinationUnreachable`, `Cancelled`; and as openConnection
 */
export function sendQuery(query: Query, wanted?: WantedBody): Promise<Answer> {
  const { origin, method, range, clock, limits, signal } = query;
  const where = publicUrl(origin);
  return withConnection({ ...query, connectMs: limits.connectMs }, async (connection) => {
    // A cache on the way, or a compressed copy, could differ from the stored bytes.
    const defaults = {
      'Accept-Encoding': 'identity',
      'Cache-Control': 'no-cache',
      ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` }),
    };
    const { mayQuote } = connection;
    const request = openHead(origin, { method, defaults }, connection);
    const responding = responseOf(request);
    request.end();
    const response = await withLimit(responding, { limitMs: limits.queryMs, message: `${where}: no answer to ${method}`, clock, signal });
    const { statusCode: status = 0 } = response;
    if (wanted === undefined || !(status === 200 || (status === 206 && range !== undefined)))
      return abortable(readAnswer(response, { clock, mayQuote, sent: nothingSent }), signal);
    await takeBody(response, wanted, { ...query, where });
    return {
      status,
      headers: singleHeaders(response),
      text: '',
      isTextWhole: false,
      textDigests: undefined,
      mayQuote,
      ...nothingSent(),
    };
  });
}

function nothingSent(): Pick<Answer, 'wasComplete' | 'takenBytes'> {
  return { wasComplete: true, takenBytes: 0 };
}

function responseOf(request: http.ClientRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', reject);
    request.once('close', () => reject(closedError()));
  });
}

/** Reads to the end of the body, or until `take` needs no more. */
async function takeBody(
  response: http.IncomingMessage,
  { take, limitMs }: WantedBody,
  { where, clock, limits, signal }: Query & { where: string },
): Promise<void> {
  const head = { status: response.statusCode ?? 0, headers: singleHeaders(response) };
  const readAll = async () => {
    const pieces = response[Symbol.asyncIterator]() as AsyncIterator<Buffer, undefined>;
    for (;;) {
      const message = `${where}: sends no more bytes`;
      const next = await withLimit(pieces.next(), { limitMs: limits.idleMs, message, clock, signal });
      if (next.done === true || !take(next.value, head)) return;
    }
  };
  await withLimit(readAll(), { limitMs, message: `${where}: its answer does not end`, clock, signal });
}
