/** Addresses of NBD servers as URIs (doc/uri.md of NetworkBlockDevice/nbd). Pure. */

import net from 'node:net';
import { DiskliftError } from '../../common/errors.ts';
import { unbracketed } from '../../common/http-url.ts';
import { MAX_STRING_BYTES } from './protocol.ts';

/** Where a server listens. */
export type NbdEndpoint = { host: string; port: number } | { socketPath: string };

export type NbdAddress = NbdEndpoint & {
  /** The server's name for the disk; empty for the server's default. */
  exportName: string;
};

const DEFAULT_PORT = 10_809;

/** The length of sun_path less its NUL. */
const MAX_SOCKET_PATH_BYTES = 107;

/** Whether `text` is a URI of an NBD server and not a path. The URI may still be unusable. */
export function isNbdUri(text: string): boolean {
  return /^nbds?(\+[a-z]+)?:\/\//i.test(text);
}

/**
 * Reads `nbd://HOST[:PORT]/[EXPORT]` or `nbd+unix:///[EXPORT]?socket=PATH`.
 * @throws DiskliftError `InvalidRequest`; the message holds neither a user nor a query
 */
export function parseNbdUri(text: string): NbdAddress {
  // URL.parse silently drops tabs, line ends and outer spaces, which would change the export's name.
  if (/\p{Cc}|^\s|\s$/u.test(text)) throw unusable('it holds a control character or a space at an end; write it percent-encoded');
  const url = URL.parse(text);
  if (url === null) throw unusable('it is no URI');
  const { protocol, username, password, hash } = url;
  if (protocol !== 'nbd:' && protocol !== 'nbd+unix:')
    throw unusable(`${protocol.slice(0, -1)} is not supported; nbd and nbd+unix are, without TLS`);
  if (username !== '' || password !== '') throw unusable('it has a user, which only servers with TLS know');
  if (hash !== '') throw unusable('it has a fragment (a # in a name is written %23)');
  // Not url.pathname: there `..` takes a part away, and here it is a name like any other.
  const [, path = ''] = /^[^:]*:\/\/[^/?#]*\/([^?#]*)/.exec(text) ?? [];
  const exportName = decoded(path, 'export');
  if (Buffer.byteLength(exportName) > MAX_STRING_BYTES) throw unusable(`the export's name is longer than ${MAX_STRING_BYTES} bytes`);
  const query = queryOf(url);
  return protocol === 'nbd:' ? { ...tcpEndpoint(url, query), exportName } : { ...unixEndpoint(url, query), exportName };
}

function unusable(why: string): DiskliftError {
  return new DiskliftError('InvalidRequest', `the NBD URI cannot be used: ${why}`);
}

/** Percent-encoding alone: a plus is a plus. */
function decoded(text: string, what: string): string {
  let value: string;
  try {
    value = decodeURIComponent(text);
  } catch {
    throw unusable(`the ${what} is not percent-encoded UTF-8`);
  }
  if (value.includes('\0')) throw unusable(`the ${what} holds a NUL`);
  return value;
}

function queryOf({ search }: URL): ReadonlyMap<string, string> {
  const query = new Map<string, string>();
  for (const pair of search.slice(1).split('&')) {
    if (pair === '') continue;
    const [key = '', ...value] = pair.split('=');
    if (key !== 'socket' || query.has(key)) throw unusable('its query may have one socket, and nothing else');
    query.set(key, decoded(value.join('='), 'socket'));
  }
  return query;
}

function tcpEndpoint({ hostname, port }: URL, query: ReadonlyMap<string, string>): NbdEndpoint {
  if (query.has('socket')) throw unusable('nbd takes a host and no socket; nbd+unix takes a socket');
  if (hostname === '') throw unusable('it has no host');
  if (port === '0') throw unusable('port 0 is none to connect to');
  const host = unbracketed(decoded(hostname, 'host'));
  return { host, port: port === '' ? DEFAULT_PORT : Number(port) };
}

function unixEndpoint({ host }: URL, query: ReadonlyMap<string, string>): NbdEndpoint {
  if (host !== '') throw unusable('nbd+unix takes no host (three slashes before the export)');
  const socketPath = query.get('socket') ?? '';
  if (socketPath === '') throw unusable('nbd+unix needs a socket (?socket=PATH)');
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH_BYTES)
    throw unusable(`the socket's path is longer than ${MAX_SOCKET_PATH_BYTES} bytes`);
  return { socketPath };
}

/** The name of the disk in messages: a URI of the parsed parts alone, so that it holds no secret. */
export function nbdDiskName(address: NbdAddress): string {
  const encoded = (text: string) => encodeURIComponent(text).replaceAll('%2F', '/');
  const exportName = encoded(address.exportName);
  if ('socketPath' in address) return `nbd+unix:///${exportName}?socket=${encoded(address.socketPath)}`;
  const { host, port } = address;
  return `nbd://${net.isIPv6(host) ? `[${host}]` : host}:${port}/${exportName}`;
}
