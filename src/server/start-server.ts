/** The listening socket of the app. */

import { once } from 'node:events';
import type { RequestListener, Server } from 'node:http';
import type https from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { awaitStorage } from '../common/await-storage.ts';
import { nodeHttp, nodeHttps } from '../common/builtin.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { readTlsFiles, reloadTlsFiles, type TlsFiles } from './tls-files.ts';

export interface RunningServer extends AsyncDisposable {
  /** As it came to be: a port of 0 takes any that is free. */
  port: number;
}

export interface Listening {
  host: string;
  port: number;
  /** HTTPS, when they are there. */
  tls?: TlsFiles | undefined;
  clock: Clock;
  warn(message: string): void;
}

/** Nobody who asks for a page sends more, or takes longer. */
const REQUEST_LIMIT_MS = 10_000;
/** Node checks these limits every 30 s. */
const LIMITS = {
  requestTimeout: REQUEST_LIMIT_MS,
  headersTimeout: REQUEST_LIMIT_MS,
  maxHeaderSize: 8192,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 1000,
};
const MOST_CONNECTIONS = 256;

/** What has been asked for when the server ends is still answered. */
const FAREWELL_MS = 1000;
const LOOK_MS = 20;

/**
 * Answers that never end by themselves must be ended by others before this is disposed of, or are cut off then.
 * @throws DiskliftError `InvalidRequest` when the address cannot be listened at, or there is no certificate for it
 */
export async function startServer(app: RequestListener, { host, port, tls, clock, warn }: Listening): Promise<RunningServer> {
  const closing = new AbortController();
  const server = await createServer(app, { tls, clock, warn, signal: closing.signal });
  server.maxConnections = MOST_CONNECTIONS;
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    closing.abort(new DiskliftError('Cancelled', 'does not listen'));
    throw new DiskliftError('InvalidRequest', `cannot listen at ${host}:${port}: ${errnoOf(error) ?? (error as Error).message}`, error);
  }
  // accept(2) fails when the process or the machine is out of descriptors or memory. The next connection may be accepted.
  server.on('error', (error) => warn(`a connection to ${host}:${port} cannot be accepted: ${errnoOf(error) ?? error.message}`));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      closing.abort(new DiskliftError('Cancelled', 'the server ends'));
      const closed = Promise.withResolvers<void>();
      let isClosed = false;
      server.close(() => {
        isClosed = true;
        closed.resolve();
      });
      for (let waitedMs = 0; waitedMs < FAREWELL_MS && !isClosed; waitedMs += LOOK_MS) {
        // A connection is idle when it has its answer.
        server.closeIdleConnections();
        await sleep(LOOK_MS);
      }
      server.closeAllConnections();
      await closed.promise;
    },
  };
}

type Reloading = Pick<Listening, 'tls' | 'clock' | 'warn'> & { signal: AbortSignal };

async function createServer(app: RequestListener, { tls: files, clock, warn, signal }: Reloading): Promise<Server> {
  if (files === undefined) return nodeHttp().createServer(LIMITS, app);
  const names = `${files.certificateFile} and ${files.keyFile}`;
  const material = await awaitStorage(names, readTlsFiles(files), { clock, signal });
  const server: https.Server = nodeHttps().createServer({ ...LIMITS, ...material, minVersion: 'TLSv1.2' }, app);
  void reloadTlsFiles({ server, files, material, clock, warn, signal });
  return server;
}
