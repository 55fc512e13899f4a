/** Ending a connection so that nobody can take it for the end of an image. */

import type { Socket } from 'node:net';

/**
 * Resets the connection. Where our side has been ended already there is nothing left to be mistaken, and libuv refuses to
 * reset it: the descriptor would stay open.
 * @param raw what lies beneath `socket` where that is TLS
 */
export function breakConnection(socket: Socket, raw: Socket): void {
  if (!raw.destroyed && !socket.writableEnded) raw.resetAndDestroy();
  socket.destroy();
  raw.destroy();
}
