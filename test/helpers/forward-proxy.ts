/** An HTTP proxy as in companies: tunnels by CONNECT, and requests for http with the whole URL. */

import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';

export interface ForwardProxyOptions {
  /** The required value of Proxy-Authorization; left out, the proxy requires none. */
  credentials?: string;
  /** Status in place of a tunnel; with 0 the proxy does not answer. */
  tunnelStatus?: number;
  tls?: https.ServerOptions;
}

export interface ForwardProxy extends AsyncDisposable {
  url: string;
  /** The requested tunnels and URLs, in order. */
  asked: string[];
  /** Headers of all requests that the proxy could read. */
  headers: http.IncomingHttpHeaders[];
}

/** Every name resolves to this host, the only one in the tests. */
const HOST = '127.0.0.1';

export async function startForwardProxy({ credentials, tunnelStatus = 200, tls }: ForwardProxyOptions = {}): Promise<ForwardProxy> {
  const asked: string[] = [];
  const headers: http.IncomingHttpHeaders[] = [];
  const sockets = new Set<net.Socket>();
  const isWelcome = (request: http.IncomingMessage) =>
    credentials === undefined || request.headers['proxy-authorization'] === `Basic ${Buffer.from(credentials).toString('base64')}`;

  function forward(request: http.IncomingMessage, response: http.ServerResponse): void {
    asked.push(request.url ?? '');
    headers.push(request.headers);
    if (!isWelcome(request)) return void response.writeHead(407, { 'Proxy-Authenticate': 'Basic' }).end();
    if (!URL.canParse(request.url ?? '')) return void response.writeHead(400).end('the whole URL, please');
    const { port, pathname, search } = new URL(request.url ?? '');
    const { 'proxy-authorization': _, ...onward } = request.headers;
    const upstream = http.request({ host: HOST, port, path: pathname + search, method: request.method, headers: onward, agent: false });
    upstream.on('continue', () => response.writeContinue());
    upstream.on('error', () => response.destroy());
    upstream.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    if (request.headers.expect !== undefined) upstream.flushHeaders();
    request.pipe(upstream);
  }

  function connect(request: http.IncomingMessage, socket: net.Socket, head: Buffer): void {
    asked.push(request.url ?? '');
    headers.push(request.headers);
    socket.on('error', () => {});
    if (!isWelcome(request)) return void socket.end('HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n');
    if (tunnelStatus === 0) return;
    if (tunnelStatus !== 200) return void socket.end(`HTTP/1.1 ${tunnelStatus} No\r\nContent-Length: 0\r\n\r\n`);
    const upstream = net.connect(Number(request.url?.split(':').at(-1)), HOST);
    upstream.on('error', () => socket.destroy()).on('close', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
    upstream.once('connect', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
  }

  const server = tls === undefined ? http.createServer() : https.createServer(tls);
  server.on('request', forward).on('checkContinue', forward).on('connect', connect);
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${HOST}:${(server.address() as AddressInfo).port}`,
    asked,
    headers,
    async [Symbol.asyncDispose]() {
      // Also the tunnels, which the server no longer tracks.
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
