/** The way to a destination: straight, or by a proxy. */

import type { Socket } from 'node:net';
import { connectGuarded } from './guarded-connection.ts';
import type { NetworkAccess } from './network-access.ts';
import { connectByProxy } from './proxied-connection.ts';
import { type ProxySettings, proxyFor } from './proxy-route.ts';
import type { TlsMaterial } from './tls-material.ts';

export interface OpenConnectionOptions {
  /** http or https. */
  url: URL;
  /** For https. */
  tls: TlsMaterial;
  access: NetworkAccess;
  proxy: ProxySettings;
  signal: AbortSignal;
}

export interface OpenedConnection {
  socket: Socket;
  /** Where the connection ends at a proxy, which wants to be told the whole URL (RFC 9112, section 3.2.2). */
  proxy?: URL;
  /** Whether what the server says may be shown. */
  mayQuote: boolean;
}

/** @throws as connectGuarded and connectByProxy */
export async function openConnection({
  url,
  tls: material,
  access,
  proxy: settings,
  ...options
}: OpenConnectionOptions): Promise<OpenedConnection> {
  const isSecure = url.protocol === 'https:';
  const endpoint = {
    host: url.hostname,
    port: url.port === '' ? (isSecure ? 443 : 80) : Number(url.port),
    tls: isSecure ? material : undefined,
    access,
    signal: options.signal,
  };
  const proxy = proxyFor(url, settings);
  if (proxy === undefined) {
    const socket = await connectGuarded(endpoint);
    return { socket, mayQuote: access.mayQuote(socket.remoteAddress ?? '', url.hostname) };
  }
  // Proxies make tunnels for https only: squid and tinyproxy refuse CONNECT for the ports of http.
  const socket = await connectByProxy({ ...endpoint, proxy, tunnel: isSecure });
  // Of a name that the proxy resolves, the address is not known here.
  const mayQuote = access.mayQuote(url.hostname, url.hostname);
  return isSecure ? { socket, mayQuote } : { socket, proxy, mayQuote };
}
