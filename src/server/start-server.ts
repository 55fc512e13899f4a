/** The HTTP or HTTPS server of the app. */

import { once } from 'node:events';
import fs from 'node:fs/promises';
import type { RequestListener, Server } from 'node:http';
import type https from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { awaitStorage } from '../common/await-storage.ts';
import { nodeHttp, nodeHttps, nodeTls } from '../common/builtin.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';

export interface RunningServer extends AsyncDisposable {
  /** The port that is bound, also when port 0 was requested. */
  port: number;
}

export interface Listening {
  host: string;
  port: number;
  /** HTTP when left out. */
  tls?: TlsFiles | undefined;
  clock: Clock;
  warn(message: string): void;
}

/** Limit of a request, whose answer is a page or less. */
const REQUEST_LIMIT_MS = 10_000;
/** Node checks these limits every 30 s. */
const LIMITS = {
  requestTimeout: REQUEST_LIMIT_MS,
  headersTimeout: REQUEST_LIMIT_MS,
  maxHeaderSize: 8192,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 1000,
};
const MAX_CONNECTIONS = 256;

/** Requests that have arrived when the server ends are answered in this time. */
const FAREWELL_MS = 1000;
const POLL_MS = 20;

/**
 * End responses without end before you dispose of the server; otherwise they are cut off.
 * @throws DiskliftError `InvalidRequest` when the server cannot listen at the address, or its certificate cannot be
 * read
 */
export async function startServer(app: RequestListener, { host, port, tls, clock, warn }: Listening): Promise<RunningServer> {
  const closing = new AbortController();
  const server = await createServer(app, { tls, clock, warn, signal: closing.signal });
  server.maxConnections = MAX_CONNECTIONS;
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    closing.abort(new DiskliftError('Cancelled', 'does not listen'));
    throw new DiskliftError('InvalidRequest', `cannot listen at ${host}:${port}: ${errnoOf(error) ?? (error as Error).message}`, error);
  }
  // accept(2) fails when the process or the machine is out of descriptors or memory. The next connection may be
  // accepted.
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
      for (let waitedMs = 0; waitedMs < FAREWELL_MS && !isClosed; waitedMs += POLL_MS) {
        // A connection is idle after its answer.
        server.closeIdleConnections();
        await sleep(POLL_MS);
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

export interface TlsFiles {
  certificateFile: string;
  keyFile: string;
}

interface TlsMaterial {
  cert: Buffer;
  key: Buffer;
}

/** The files are polled, because mounted Secrets change by symbolic links, on file systems that may not report that. */
const RELOAD_MS = 10_000;

/** @throws DiskliftError `InvalidRequest` when the files cannot be read or do not match */
async function readTlsFiles({ certificateFile, keyFile }: TlsFiles): Promise<TlsMaterial> {
  try {
    const [cert, key] = await Promise.all([fs.readFile(certificateFile), fs.readFile(keyFile)]);
    nodeTls().createSecureContext({ cert, key });
    return { cert, key };
  } catch (error) {
    const why = errnoOf(error) ?? (error as Error).message;
    throw new DiskliftError('InvalidRequest', `${certificateFile} and ${keyFile} cannot be used for HTTPS: ${why}`, error);
  }
}

interface Reload {
  server: Pick<https.Server, 'setSecureContext'>;
  files: TlsFiles;
  /** The material that the server uses now. */
  material: TlsMaterial;
  clock: Clock;
  warn(message: string): void;
  signal: AbortSignal;
}

/**
 * Gives the server new files until `signal` is aborted. While the files cannot be used, the last usable material stays.
 */
async function reloadTlsFiles({ server, files, material, clock, warn, signal }: Reload): Promise<void> {
  let [current, problem] = [material, ''];
  for (;;) {
    try {
      await clock.delay(RELOAD_MS, signal);
    } catch {
      return;
    }
    try {
      const next = await readTlsFiles(files);
      problem = '';
      if (next.cert.equals(current.cert) && next.key.equals(current.key)) continue;
      server.setSecureContext(next);
      current = next;
    } catch (error) {
      const { message } = error as Error;
      // Warns once, not every ten seconds.
      if (message !== problem) warn(message);
      problem = message;
    }
  }
}
