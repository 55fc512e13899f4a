/** A server for TCP or TLS. */

import { once } from 'node:events';
import net from 'node:net';
import { nodeTls } from '../../common/builtin.ts';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';

export interface ListenAddress {
  /** A name or an address, IPv6 without brackets; all addresses of the machine where it is left out. */
  host?: string | undefined;
  /** 0: any that is free. */
  port: number;
}

export interface ServerTls {
  /** PEM. */
  certificate: string;
  /** PEM. */
  key: string;
  /** PEM: senders have to show a certificate of these authorities. */
  clientCa?: string | undefined;
}

export interface ListenOptions {
  address: ListenAddress;
  tls?: ServerTls | undefined;
  /** Takes every connection; `raw` is what lies beneath `socket`, and the same without TLS. */
  onConnection(socket: net.Socket, raw: net.Socket): void;
}

/** Senders that have not yet said who they are count, too. */
const MOST_CONNECTIONS = 32;
const HANDSHAKE_MS = 10_000;

/** Long enough that a write costs little per byte. */
const BUFFERED_BYTES = MIB;

/** @throws DiskliftError `InvalidRequest` when the address or the certificate cannot be used */
export async function listen({ address, tls: material, onConnection }: ListenOptions): Promise<net.Server> {
  const options = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000, highWaterMark: BUFFERED_BYTES };
  try {
    const server = material === undefined ? net.createServer(options) : createTlsServer(options, material, onConnection);
    if (material === undefined) server.on('connection', (socket) => onConnection(socket, socket));
    server.maxConnections = MOST_CONNECTIONS;
    server.listen(address);
    await once(server, 'listening');
    // accept(2) fails when the process or the machine is out of descriptors or memory. The sender connects again.
    server.on('error', () => {});
    return server;
  } catch (error) {
    const { host = '', port } = address;
    throw new DiskliftError('InvalidRequest', `cannot listen on ${host}:${port}: ${errnoOf(error) ?? (error as Error).message}`, error);
  }
}

function createTlsServer(
  options: net.ServerOpts,
  { certificate: cert, key, clientCa }: ServerTls,
  onConnection: ListenOptions['onConnection'],
): net.Server {
  const beneath = new Map<string, net.Socket>();
  const clientTls =
    clientCa === undefined ? {} : { ca: clientCa, allowPartialTrustChain: true, requestCert: true, rejectUnauthorized: true };
  const server = nodeTls().createServer({ ...options, cert, key, ...clientTls, handshakeTimeout: HANDSHAKE_MS });
  server.on('connection', (raw) => {
    const peer = nameOf(raw);
    beneath.set(peer, raw);
    // Until it has shown that it speaks TLS, nothing waits for it.
    raw.unref();
    raw.once('close', () => beneath.delete(peer));
  });
  server.on('secureConnection', (socket) => {
    const raw = beneath.get(nameOf(socket));
    if (raw === undefined) return void socket.destroy();
    raw.ref();
    onConnection(socket, raw);
  });
  return server;
}

function nameOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
