/** What a server has sent before it went away. */

import fs from 'node:fs';
import type { Socket } from 'node:net';

/** An answer's head, and some of its text. */
const LONGEST_REST_BYTES = 65_536;

/**
 * For when a write has failed, and before the socket is closed for it. Where a server answers early and closes, its reset tells
 * the writer that the connection is gone; what came in front of the reset stays readable in the kernel (on Linux), but Node closes
 * without looking. So this looks, and passes on what is there. Under TLS there is no way to do that.
 */
export function readWhatIsLeft(socket: Socket): void {
  const { _handle: handle } = socket as { _handle?: { fd?: number } | null };
  if ('encrypted' in socket || handle?.fd === undefined || handle.fd < 0) return;
  const rest = Buffer.alloc(LONGEST_REST_BYTES);
  try {
    const length = fs.readSync(handle.fd, rest);
    // A stream with an error takes nothing in any more, but the parser listens on.
    if (length > 0) socket.emit('data', rest.subarray(0, length));
  } catch {
    // There is nothing: the failure of the write says the rest.
  }
}
