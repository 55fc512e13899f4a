/** Bytes that the kernel has taken from a connection. */

import type { Socket } from 'node:net';

/** Members of Node's sockets that its types omit. */
interface SocketInternals {
  /** The socket that carries a TLS connection. */
  _parent?: Socket;
  _handle?: { bytesWritten: number; writeQueueSize: number } | null;
}

/**
 * Grows while a large write is under way, unlike `bytesWritten`, which counts a write when it begins. Under TLS it counts the encrypted bytes.
 * @returns 0 for a socket that is closed
 */
export function takenBytes(socket: Socket): number {
  const { _parent: parent, _handle: handle } = socket as SocketInternals;
  if (parent !== undefined && parent !== null) return takenBytes(parent);
  if (handle === undefined || handle === null) return 0;
  return handle.bytesWritten - handle.writeQueueSize;
}
