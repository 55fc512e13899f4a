/** An HTTP server that stores the bodies of PUT requests as files. */

import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

export async function startHttpStore(directory: string): Promise<AsyncDisposable & { url: string }> {
  const server = http.createServer((request, response) => {
    pipeline(request, createWriteStream(path.join(directory, path.basename(request.url ?? '')))).then(
      () => response.writeHead(201).end(),
      () => response.destroy(),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
