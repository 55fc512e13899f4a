/** Answers that do not end: as fast as the client reads, a byte at a time, or only interim ones. */

import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const CHUNK = Buffer.alloc(64 * 1024, '<a>x</a>');

/** Bytes that the peer sends at most, where a few hundred bytes are expected. */
const FLOOD_BYTES = 100 * 1024 * 1024;

/**
 * Writes {@link FLOOD_BYTES} and ends, unless the client disconnects first.
 * @param onBytes is called with the count so far
 */
export function flood(response: ServerResponse, onBytes: (sentBytes: number) => void = () => {}): void {
  let sentBytes = 0;
  const more = (): void => {
    while (!response.destroyed && sentBytes < FLOOD_BYTES) {
      sentBytes += CHUNK.length;
      onBytes(sentBytes);
      if (!response.write(CHUNK)) return void response.once('drain', more);
    }
    response.end();
  };
  more();
}

/** Writes a byte every few milliseconds until the client disconnects. */
export function drip(response: ServerResponse, everyMs = 20): void {
  response.flushHeaders();
  const timer = setInterval(() => response.write(' '), everyMs);
  response.on('close', () => clearInterval(timer));
}

/** Writes interim answers until the client disconnects. */
export function floodInterim(socket: Socket): void {
  const many = 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(500);
  const more = (): void => {
    if (socket.destroyed) return;
    if (socket.write(many)) setImmediate(more);
    else socket.once('drain', more);
  };
  more();
}
