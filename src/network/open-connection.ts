/** Connections to a destination, direct or by way of a proxy. */

import { isIP, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { abortable, cancelledError, throwIfAborted } from '../common/abortable.ts';
import { nodeHttp } from '../common/builtin.ts';
import { DiskliftError } from '../common/errors.ts';
import { basicCredentials, readHttpUrl, unbracketed } from '../common/http-url.ts';
import { bareHost, createAddressSet } from './addresses.ts';
import { createNetworkAccess, type NetworkAccess } from './destination-policy.ts';
import { connectGuarded, type GuardedConnectionOptions, startTls, type TlsMaterial } from './guarded-connection.ts';
import { closedError, networkError } from './network-error.ts';

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
  /** The proxy at which the connection ends. A request through it names the whole URL (RFC 9112, section 3.2.2). */
  proxy?: URL;
  /** Whether the server's text may be shown. */
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
  // The proxy resolves the name, so the address is not known here.
  const mayQuote = access.mayQuote(url.hostname, url.hostname);
  return isSecure ? { socket, mayQuote } : { socket, proxy, mayQuote };
}

interface ProxiedConnectionOptions extends GuardedConnectionOptions {
  proxy: URL;
  /** Whether the proxy makes a tunnel (RFC 9110, section 9.3.6). Without one the connection ends at the proxy. */
  tunnel: boolean;
}

/** The operator sets the proxy; the policy applies to hosts that requests name. */
const ANYWHERE = createNetworkAccess();

/**
 * The proxy resolves the destination's name. The policy checks the addresses where this host can resolve the name too,
 * otherwise the name alone.
 * @throws as {@link connectGuarded}; and DiskliftError `CredentialsInvalid`, `DestinationRejected` or
 * `DestinationUnreachable` for answers of the proxy
 */
async function connectByProxy(options: ProxiedConnectionOptions): Promise<Socket> {
  const { host, tls, access, signal, proxy, tunnel } = options;
  throwIfAborted(signal);
  access.checkHost(host);
  await checkAddresses(access, host, signal);
  const connected = await connectToProxy(proxy, signal);
  if (!tunnel) return connected;
  const through = await openTunnel(connected, options);
  return tls === undefined ? through : startTls(through, { host, material: tls, signal });
}

/** @throws DiskliftError `DestinationNotAllowed` */
async function checkAddresses(access: NetworkAccess, host: string, signal: AbortSignal): Promise<void> {
  try {
    await abortable(promisify(access.lookup)(unbracketed(host), { all: true }), signal);
  } catch (error) {
    // Any other failure comes from the resolver of this host.
    if (error instanceof DiskliftError) throw error;
  }
}

async function connectToProxy(proxy: URL, signal: AbortSignal): Promise<Socket> {
  const isSecure = proxy.protocol === 'https:';
  const port = proxy.port === '' ? (isSecure ? 443 : 80) : Number(proxy.port);
  try {
    return await connectGuarded({ host: proxy.hostname, port, tls: isSecure ? {} : undefined, access: ANYWHERE, signal });
  } catch (error) {
    throw networkError(nameOf(proxy), error);
  }
}

function nameOf(proxy: URL): string {
  return `the proxy ${proxy.host}`;
}

function openTunnel(socket: Socket, { host, port, proxy, signal }: ProxiedConnectionOptions): Promise<Socket> {
  const authority = `${host}:${port}`;
  const credentials = basicCredentials(proxy);
  const request = nodeHttp().request({
    method: 'CONNECT',
    path: authority,
    headers: { Host: authority, ...(credentials === undefined ? {} : { 'Proxy-Authorization': credentials }) },
    createConnection: () => socket,
  });
  return new Promise<Socket>((resolve, reject) => {
    const fail = (error: unknown) => {
      signal.removeEventListener('abort', onAbort);
      socket.destroy();
      reject(networkError(nameOf(proxy), error));
    };
    const onAbort = () => fail(cancelledError(signal));
    const onClose = () => fail(closedError());
    signal.addEventListener('abort', onAbort, { once: true });
    request.on('error', fail).on('close', onClose);
    request.once('connect', ({ statusCode = 0 }, through: Socket, head: Buffer) => {
      if (statusCode < 200 || statusCode > 299) return fail(refusal(nameOf(proxy), statusCode, authority));
      signal.removeEventListener('abort', onAbort);
      // The request ends here, but not its connection.
      request.off('close', onClose);
      through.on('error', () => {});
      if (head.length > 0) through.unshift(head);
      resolve(through);
    });
    request.end();
  });
}

/** A cause with a code, as every connection has that was never open: nothing can have reached the destination. */
const NO_TUNNEL = Object.assign(new Error('the proxy has made no tunnel'), { code: 'ENOTUNNEL' });

function refusal(proxy: string, status: number, authority: string): DiskliftError {
  const message = `${proxy}: answered ${status} when asked for ${authority}`;
  if (status === 407) return new DiskliftError('CredentialsInvalid', `${message}: its credentials are missing or wrong`);
  return status >= 500 || status === 429
    ? new DiskliftError('DestinationUnreachable', message, NO_TUNNEL)
    : new DiskliftError('DestinationRejected', message, NO_TUNNEL);
}

/** The values of HTTPS_PROXY, HTTP_PROXY and NO_PROXY. */
export interface ProxySettings {
  /** For destinations of https. A URL of http or https; may hold secrets in its user. */
  httpsProxy?: string | undefined;
  /** For destinations of http. */
  httpProxy?: string | undefined;
  /**
   * Destinations that are connected to without a proxy: names, which stand for everything beneath them too, addresses
   * and CIDRs, separated by commas or spaces; `*` stands for all.
   */
  noProxy?: string | undefined;
}

/**
 * Chooses the proxy for a destination by the rules of curl.
 * @returns undefined for a direct connection
 * @throws DiskliftError `InvalidRequest` for a proxy whose URL is not valid
 */
export function proxyFor(destination: URL, { httpsProxy, httpProxy, noProxy = '' }: ProxySettings): URL | undefined {
  const setting = (destination.protocol === 'https:' ? httpsProxy : httpProxy)?.trim();
  if (setting === undefined || setting === '' || isExempt(bareHost(destination.hostname), noProxy)) return undefined;
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(setting) ? setting : `http://${setting}`;
  const reading = readHttpUrl(text);
  if ('url' in reading) return reading.url;
  throw new DiskliftError('InvalidRequest', `the URL of the proxy for ${destination.protocol}//${destination.host} ${reading.problem}`);
}

function isExempt(host: string, noProxy: string): boolean {
  const addresses = createAddressSet();
  const names: string[] = [];
  for (const entry of noProxy.split(/[\s,]+/)) {
    if (entry === '*') return true;
    const text = bareHost(entry).replace(/^\./, '');
    if (text !== '' && !addresses.add(text)) names.push(text);
  }
  if (isIP(host) !== 0) return addresses.has(host);
  return names.some((name) => host === name || host.endsWith(`.${name}`));
}
