/** A TCP or TLS server that handles each connection by a function of the test. */

import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import tls from 'node:tls';

export interface TcpPeer extends AsyncDisposable {
  host: string;
  port: number;
  /** The bytes read from a connection so far. */
  received(index: number): Buffer;
  /** How a connection ends: 'end' for an orderly end, or the code of an error. */
  ended(index: number): Promise<string>;
}

export interface TcpPeerOptions {
  tls?: tls.TlsOptions;
  /** Called for each connection; by default everything is read, and the end answered by an end. */
  onSocket?(socket: net.Socket): void;
}

export async function startTcpPeer({ onSocket = takeAll, tls: tlsOptions }: TcpPeerOptions = {}): Promise<TcpPeer> {
  const connections: { socket: net.Socket; chunks: Buffer[]; ended: Promise<string> }[] = [];
  const onConnection = (socket: net.Socket) => {
    const chunks: Buffer[] = [];
    socket.on('data', (bytes: Buffer) => chunks.push(bytes)).pause();
    const ended = new Promise<string>((resolve) => {
      socket.once('end', () => resolve('end')).once('close', () => resolve('close'));
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
    connections.push({ socket, chunks, ended });
    onSocket(socket);
  };
  const server =
    tlsOptions === undefined
      ? net.createServer({ allowHalfOpen: true }, onConnection)
      : tls.createServer({ allowHalfOpen: true, ...tlsOptions }, onConnection);
  // Also connections that do not complete the TLS handshake.
  const raws = new Set<net.Socket>();
  server.on('connection', (raw) => raws.add(raw));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    received: (index) => Buffer.concat(connections[index]?.chunks ?? []),
    ended: (index) => connections[index]?.ended ?? Promise.reject(new RangeError(`no connection ${index}`)),
    async [Symbol.asyncDispose]() {
      for (const each of [...connections.map(({ socket }) => socket), ...raws]) each.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function takeAll(socket: net.Socket): void {
  socket.resume().once('end', () => socket.end());
}

/** Calls `act` once when that many bytes have arrived. */
export function whenRead(socket: net.Socket, bytes: number, act: () => void): void {
  let left = bytes;
  socket.on('data', (chunk: Buffer) => {
    const before = left;
    left -= chunk.length;
    if (before > 0 && left <= 0) act();
  });
  socket.resume();
}
