/** A connection that the destination policy allows. No byte goes to any other address. */

import net, { isIP, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { cancelledError, throwIfAborted } from '../common/abortable.ts';
import { nodeTls } from '../common/builtin.ts';
import { CONNECT_OPTIONS } from '../common/connect-options.ts';
import { unbracketed } from '../common/http-url.ts';
import type { NetworkAccess } from './destination-policy.ts';
import { closedError } from './network-error.ts';

export interface GuardedConnectionOptions {
  /** A name or an address, as `URL.hostname` has it. */
  host: string;
  port: number;
  /** Left out: no TLS. */
  tls?: TlsMaterial | undefined;
  access: NetworkAccess;
  /** Ends the attempt to connect. An open connection belongs to the caller. */
  signal: AbortSignal;
}

/**
 * Checks the address again when the connection is open, before TLS begins, so that no forbidden server receives the
 * client certificate.
 * @returns the connection, ready for writing
 * @throws DiskliftError `DestinationNotAllowed`, or what `signal` was aborted with; and errors of the network as Node
 * has them
 */
export async function connectGuarded({ host, port, tls: material, access, signal }: GuardedConnectionOptions): Promise<net.Socket> {
  throwIfAborted(signal);
  access.checkHost(host);
  const socket = net.connect({ host: unbracketed(host), port, lookup: access.lookup, ...CONNECT_OPTIONS });
  await ready(socket, 'connect', signal);
  try {
    access.checkSocket(socket, host);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return material === undefined ? socket : startTls(socket, { host, material, signal });
}

export interface TlsStart {
  host: string;
  material: TlsMaterial;
  signal: AbortSignal;
  /** Offered to the server (RFC 7301). */
  protocols?: string[];
}

export async function startTls(socket: net.Socket, { host, material, signal, protocols = ['http/1.1'] }: TlsStart): Promise<TLSSocket> {
  const { ca, certificate: cert, key, serverName } = material;
  const name = serverName ?? unbracketed(host).replace(/\.$/, '');
  const secure = nodeTls().connect({
    socket,
    host: name,
    // SNI is for names only (RFC 6066, section 3).
    servername: isIP(name) === 0 ? name : '',
    ALPNProtocols: protocols,
    // Without this, NODE_TLS_REJECT_UNAUTHORIZED=0 would turn verification off.
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    ca,
    // As in curl and Go, a bundle may hold an intermediate authority or the server's own certificate without the root.
    ...(ca === undefined ? {} : { allowPartialTrustChain: true }),
    cert,
    key,
  });
  await ready(secure, 'secureConnect', signal);
  return secure;
}

/** Waits for `event`. A socket that does not get there is destroyed. */
function ready(socket: net.Socket, event: 'connect' | 'secureConnect', signal: AbortSignal): Promise<void> {
  // This listener stays, because an error without a listener would end the process. A later user sees that the socket
  // is closed.
  socket.on('error', () => {});
  return new Promise<void>((resolve, reject) => {
    const settle = () => {
      signal.removeEventListener('abort', onAbort);
      socket.off(event, onReady).off('error', onError).off('close', onClose);
    };
    const fail = (error: unknown) => {
      settle();
      socket.destroy();
      reject(error);
    };
    const onReady = () => {
      settle();
      resolve();
    };
    const onError = (error: Error) => fail(error);
    const onClose = () => fail(closedError());
    const onAbort = () => fail(cancelledError(signal));
    socket.on(event, onReady).on('error', onError).on('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

/** Material of a TLS connection, beside the system's own authorities. */

export interface TlsMaterial {
  /** PEM: authorities that are trusted instead of the system's. */
  ca?: string | undefined;
  /** PEM: the client's certificate. Secret together with its key. */
  certificate?: string | undefined;
  /** PEM. */
  key?: string | undefined;
  /** The name that the server's certificate must be for, where it is not the host's. Sent as SNI. */
  serverName?: string | undefined;
}

/**
 * Resets the connection, so that the peer cannot mistake its end for the end of an image. Once our side has ended there
 * is nothing to mistake, and libuv refuses the reset, so the descriptor would stay open.
 * @param raw the connection beneath `socket` where `socket` is TLS
 */
export function breakConnection(socket: Socket, raw: Socket): void {
  if (!raw.destroyed && !socket.writableEnded) raw.resetAndDestroy();
  socket.destroy();
  raw.destroy();
}
