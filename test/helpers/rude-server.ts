/** A server that answers uploads too early and closes the connection, as servers without lingering close do. */

import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import tls from 'node:tls';

export interface RudeServerOptions {
  /** Bytes of the connection, head included, that are read before `onEnough`; nothing is read afterwards. */
  readBytes: number;
  /** Called once for each connection. */
  onEnough(socket: Socket): void;
  tls?: tls.TlsOptions;
}

export interface RudeServer extends AsyncDisposable {
  url: string;
}

export async function startRudeServer({ readBytes, onEnough, tls: secure }: RudeServerOptions): Promise<RudeServer> {
  const sockets = new Set<Socket>();
  const serve = (socket: Socket): void => {
    sockets.add(socket);
    let leftBytes = readBytes;
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    socket.on('data', (bytes: Buffer) => {
      const hadEnough = leftBytes <= 0;
      leftBytes -= bytes.length;
      if (hadEnough || leftBytes > 0) return;
      socket.pause();
      onEnough(socket);
    });
  };
  const server = secure === undefined ? net.createServer(serve) : tls.createServer(secure, serve);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `${secure === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
