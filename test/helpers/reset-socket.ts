/** Ending a connection by an RST, at any moment. */

import type { Socket } from 'node:net';

/**
 * Resets the connection. While our side is being ended libuv refuses to (EINVAL), and Node then forgets the socket with its descriptor
 * open: the process cannot exit any more, and spins where it waits for its handles to be closed. So there it is only destroyed.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
}
