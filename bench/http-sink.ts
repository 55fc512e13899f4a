/** `node bench/http-sink.ts`: takes uploads and forgets them, as fast as one processor can. Prints its port. */

import http from 'node:http';
import type { AddressInfo } from 'node:net';

const server = http.createServer((request, response) => {
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  request.on('end', () => response.writeHead(201).end(`${bytes}\n`));
});
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
