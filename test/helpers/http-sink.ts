/** A server that accepts uploads and keeps the complete ones; a test can replace its handlers. */

import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

export interface HttpSinkOptions {
  /** Handles a request with `Expect: 100-continue`; by default the sink answers 100. */
  onExpect?: Handler;
  /** Handles a request; by default the sink keeps its body and answers 201. */
  onRequest?: Handler;
  onConnection?: () => void;
  tls?: https.ServerOptions;
}

export interface HttpSink extends AsyncDisposable {
  url: string;
  /** Bodies that arrived completely, by path. */
  complete: Map<string, Buffer>;
  /** All requests, in order. */
  requests: { method?: string | undefined; url?: string | undefined; headers: http.IncomingHttpHeaders }[];
  /** Reads a body to its end and keeps it if it is complete. */
  take(request: http.IncomingMessage): Promise<Buffer>;
}

export async function startHttpSink({ onExpect, onRequest, onConnection, tls }: HttpSinkOptions = {}): Promise<HttpSink> {
  const complete: HttpSink['complete'] = new Map();
  const requests: HttpSink['requests'] = [];

  async function take(request: http.IncomingMessage): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    if (body.length === Number(request.headers['content-length'])) complete.set(request.url ?? '', body);
    return body;
  }

  const takeAll: Handler = (request, response) => {
    take(request).then(
      () => response.writeHead(201, { ETag: '"tag"' }).end(),
      // Cut off.
      () => {},
    );
  };

  const handle: Handler = (request, response) => {
    requests.push({ method: request.method, url: request.url, headers: request.headers });
    (onRequest ?? takeAll)(request, response);
  };
  const server = tls === undefined ? http.createServer(handle) : https.createServer(tls, handle);
  server.on('checkContinue', (request, response) => {
    if (onExpect !== undefined) {
      requests.push({ method: request.method, url: request.url, headers: request.headers });
      return onExpect(request, response);
    }
    response.writeContinue();
    handle(request, response);
  });
  server.on('connection', () => onConnection?.());
  server.on('clientError', (_error, socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    complete,
    requests,
    take,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
