/** Peers that read an image to its end and discard it. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import net, { type AddressInfo, type Server } from 'node:net';
import { systemClock } from '../../src/common/clock.ts';
import { createStreamOutput } from '../../src/targets/tcp/image-output.ts';
import { runReceiver } from '../../src/targets/tcp/receiver.ts';

export interface DrainingSink extends AsyncDisposable {
  /** On 127.0.0.1. */
  port: number;
}

async function listening(server: Server): Promise<DrainingSink> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function startDrainingHttp(): Promise<DrainingSink> {
  return listening(http.createServer((request, response) => void request.resume().once('end', () => response.writeHead(201).end())));
}

/**
 * CreateMultipartUpload and CompleteMultipartUpload in the API reference of Amazon S3; the other requests get an empty
 * answer.
 */
function answerOfS3(method: string | undefined, { pathname, searchParams }: URL): string {
  if (method !== 'POST') return '';
  const [, bucket, key] = pathname.split('/');
  const object = `<Bucket>${bucket}</Bucket><Key>${key}</Key>`;
  return searchParams.has('uploads')
    ? `<InitiateMultipartUploadResult>${object}<UploadId>1</UploadId></InitiateMultipartUploadResult>`
    : `<CompleteMultipartUploadResult>${object}<ETag>"kept-nowhere"</ETag></CompleteMultipartUploadResult>`;
}

/**
 * The part of an S3 server that an upload requires, over https. Its keys may only write, so no request reads objects.
 * @param tls PEM
 */
export function startDrainingS3({ certificate, key }: { certificate: string; key: string }): Promise<DrainingSink> {
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    const answer = answerOfS3(request.method, new URL(request.url ?? '', 'https://sink'));
    request.resume().once('end', () => {
      if (request.method === 'HEAD' || request.method === 'GET') return void response.writeHead(403).end();
      response.writeHead(200, { etag: '"kept-nowhere"', 'content-type': 'application/xml', 'content-length': answer.length });
      response.end(answer);
    });
  };
  return listening(https.createServer({ cert: certificate, key }, onRequest));
}

/** As `nc -l` into nothing. */
export function startDrainingTcp(): Promise<DrainingSink> {
  return listening(net.createServer({ allowHalfOpen: true }, (socket) => void socket.resume().once('end', () => socket.end())));
}

/** Receives one image. */
export async function startDrainingReceiver(): Promise<DrainingSink> {
  const port = Promise.withResolvers<number>();
  const stopped = new AbortController();
  const running = runReceiver({
    address: { host: '127.0.0.1', port: 0 },
    protocol: 'Acknowledged',
    output: createStreamOutput(async () => {}),
    keep: false,
    clock: systemClock,
    signal: stopped.signal,
    onListening: (address) => port.resolve(address.port),
    onReceived: () => {},
    warn: assert.fail,
  }).catch((error: unknown) => assert.ok(stopped.signal.aborted, String(error)));
  return {
    port: await port.promise,
    async [Symbol.asyncDispose]() {
      stopped.abort();
      await running;
    },
  };
}
