/** The listening socket of the app. */

import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { nodeHttp } from '../common/builtin.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';

export interface RunningServer extends AsyncDisposable {
  /** As it came to be: a port of 0 takes any that is free. */
  port: number;
}

export interface Listening {
  host: string;
  port: number;
}

/** Nobody who asks for a page sends more, or takes longer. */
const REQUEST_LIMIT_MS = 10_000;

/** @throws DiskliftError `InvalidRequest` when the address cannot be listened at */
export async function startServer(app: RequestListener, { host, port }: Listening): Promise<RunningServer> {
  const server = nodeHttp().createServer({ requestTimeout: REQUEST_LIMIT_MS, headersTimeout: REQUEST_LIMIT_MS, maxHeaderSize: 8192 }, app);
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new DiskliftError('InvalidRequest', `cannot listen at ${host}:${port}: ${errnoOf(error) ?? (error as Error).message}`, error);
  }
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
