/**
 * Places that never answer: a file on storage that does not answer, and a server that accepts connections and never
 * answers.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { errnoOf } from '../../src/common/errors.ts';
import { until } from './until.ts';

export interface SilentPlace extends AsyncDisposable {
  /** Path, or HOST:PORT. */
  place: string;
  /** Resolves when a program waits for it. */
  reached: Promise<void>;
}

/**
 * A FIFO. A program that opens it waits in the kernel for a writer, and then for a byte, as with storage that does not
 * answer. From outside, only a writer can detect a reader.
 */
export function silentFile(place: string): SilentPlace {
  execFileSync('mkfifo', [place]);
  let writer: number | undefined;
  let isOver = false;
  const reached = until(`a reader of ${place}`, () => {
    try {
      if (!isOver) writer ??= openSync(place, constants.O_WRONLY | constants.O_NONBLOCK);
      return true;
    } catch (error) {
      assert.equal(errnoOf(error), 'ENXIO');
      return false;
    }
  });
  reached.catch(() => {});
  return {
    place,
    reached,
    async [Symbol.asyncDispose]() {
      if (isOver) return;
      isOver = true;
      // Opens for every reader that still waits; when all writers close, these read the end of the file.
      const last = openSync(place, constants.O_RDWR | constants.O_NONBLOCK);
      await nextTurn();
      closeSync(last);
      if (writer !== undefined) closeSync(writer);
    },
  };
}

export async function silentServer(): Promise<SilentPlace> {
  const sockets = new Set<net.Socket>();
  const { promise: reached, resolve } = Promise.withResolvers<void>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).resume();
    resolve();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    place: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    reached,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
