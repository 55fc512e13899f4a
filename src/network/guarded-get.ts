/** GET requests over connections that the policy allows, whose bodies are read as they come. */

import type http from 'node:http';
import { throwIfAborted } from '../common/abortable.ts';
import { nodeHttps } from '../common/builtin.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { withinLimit } from '../common/time-limit.ts';
import type { NetworkAccess } from './destination-policy.ts';
import { createGuardedAgents } from './guarded-agent.ts';
import type { TlsMaterial } from './guarded-connection.ts';
import { networkError } from './network-error.ts';
import type { ProxySettings } from './open-connection.ts';

export interface GuardedGetOptions {
  access: NetworkAccess;
  tls: TlsMaterial;
  proxy: ProxySettings;
  /** Sent with each request; their values are in no message. */
  headers: Readonly<Record<string, string>>;
  clock: Clock;
  /** Limit of the server's silence, before an answer and within one. */
  silenceMs?: number | undefined;
}

interface GetAnswer {
  status: number;
  /** @throws DiskliftError `DestinationUnreachable` where the connection breaks or is silent, `Cancelled` */
  body: AsyncIterable<Uint8Array>;
  discard(): void;
}

export interface GuardedGet {
  /**
   * @throws DiskliftError `InvalidRequest` for another scheme than https, `DestinationNotAllowed`,
   * `DestinationUnreachable`, `Cancelled` at once
   */
  get(url: URL, signal: AbortSignal): Promise<GetAnswer>;
  close(): void;
}

const SILENCE_MS = 60_000;
/** Connections that wait for the next request. */
const MAX_FREE_SOCKETS = 8;

export function createGuardedGet({ access, tls, proxy, headers, clock, silenceMs = SILENCE_MS }: GuardedGetOptions): GuardedGet {
  const { httpsAgent } = createGuardedAgents({ access, tls, proxy, keepAlive: true, maxFreeSockets: MAX_FREE_SOCKETS });

  return {
    async get(url, signal) {
      throwIfAborted(signal);
      if (url.protocol !== 'https:') throw new DiskliftError('InvalidRequest', `${url.protocol}//${url.host}: only https is allowed here`);
      const where = `https://${url.host}`;
      const wait = <T>(promise: Promise<T>) =>
        withinLimit(promise, {
          limitMs: silenceMs,
          clock,
          signal,
          late: () => new DiskliftError('DestinationUnreachable', `${where}: no answer (waited ${Math.round(silenceMs / 1000)} s)`),
        });
      const request = nodeHttps().request(url, { method: 'GET', agent: httpsAgent, headers });
      try {
        const response = await wait(responseOf(request));
        return {
          status: response.statusCode ?? 0,
          body: bodyOf(response, wait, where),
          discard: () => void response.destroy(),
        };
      } catch (error) {
        request.destroy();
        throw networkError(where, error);
      }
    },
    close: () => httpsAgent.destroy(),
  };
}

function responseOf(request: http.ClientRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    // Stays, because an error without a listener would end the process.
    request.on('error', reject);
    request.end();
  });
}

async function* bodyOf(
  response: http.IncomingMessage,
  wait: <T>(promise: Promise<T>) => Promise<T>,
  where: string,
): AsyncGenerator<Uint8Array> {
  const chunks = response[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = (await wait(chunks.next())) as IteratorResult<Uint8Array>;
      if (done === true) return;
      yield value;
    }
  } catch (error) {
    throw networkError(where, error);
  } finally {
    // A connection with an unread rest cannot carry another request.
    if (!response.complete) response.destroy();
  }
}
