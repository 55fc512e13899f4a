/** Ending a connection by an RST, at any moment. */

import type { Socket } from 'node:net';

/**
 * Resets the connection. While our side is being ended, libuv refuses to reset it (EINVAL). Node then forgets the
 * socket with its descriptor open, and the process spins at its end instead of exiting. In that case the socket is only
 * destroyed.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
}
