/**
 * HTTP servers that accept whole images: without TLS, with TLS, and one that reports the digest of the stored bytes.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { systemClock } from '../../../src/common/clock.ts';
import { createNetworkAccess } from '../../../src/network/destination-policy.ts';
import { createHttpTarget } from '../../../src/targets/http/http-target.ts';
import { type HttpSink, type HttpSinkOptions, startHttpSink } from '../http-sink.ts';
import type { Destination, Peer } from './destination.ts';
import { peerCertificate } from './peer-certificate.ts';

const PATH = '/disks/a.qcow2';

interface Variant {
  tls?: boolean;
  namesDigest?: boolean;
}

async function startPeer({ tls = false, namesDigest = false }: Variant): Promise<Peer> {
  let refuses = false;
  const sinkOptions: HttpSinkOptions = {
    onRequest(request, response) {
      if (refuses) return void response.writeHead(403).end();
      sink.take(request).then(
        (body) => {
          const digest = createHash('sha256').update(body).digest('base64');
          response.writeHead(201, namesDigest ? { 'Repr-Digest': `sha-256=:${digest}:` } : {}).end();
        },
        () => {},
      );
    },
    onExpect(request, response) {
      if (refuses) return void response.writeHead(403).end();
      response.writeContinue();
      sinkOptions.onRequest?.(request, response);
    },
  };
  const identity = tls ? await peerCertificate() : undefined;
  if (identity !== undefined) sinkOptions.tls = { cert: identity.certificate, key: identity.key };
  const sink: HttpSink = await startHttpSink(sinkOptions);
  return {
    port: Number(new URL(sink.url).port),
    image: async () => sink.complete.get(PATH),
    openUploads: async () => [],
    announcedBytes: () => Number(sink.requests.at(-1)?.headers['content-length'] ?? assert.fail('no request')),
    async refuse() {
      refuses = true;
    },
    createTarget: (port, limits, access = createNetworkAccess()) =>
      createHttpTarget({
        url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}${PATH}`,
        method: 'PUT',
        ...(identity === undefined ? {} : { tls: { ca: identity.ca } }),
        access,
        clock: systemClock,
        limits,
      }),
    [Symbol.asyncDispose]: () => sink[Symbol.asyncDispose](),
  };
}

const COMMON = {
  // The check sends no request that a server could refuse.
  check: { connects: true, findsRefusal: false },
  proof: 'status',
  refusal: { code: 'CredentialsInvalid', retryable: false, mostBytes: 4096 },
  announcesSize: true,
  knowsLength: true,
} as const;

export const HTTP_DESTINATIONS: readonly Destination[] = [
  // In plain HTTP neither the server nor its client can detect a flipped bit.
  { ...COMMON, name: 'HTTP', findsCorruption: false, start: () => startPeer({}) },
  { ...COMMON, name: 'HTTPS', findsCorruption: true, start: () => startPeer({ tls: true }) },
  {
    ...COMMON,
    name: 'HTTP with Repr-Digest',
    isVariant: true,
    proof: 'digest',
    findsCorruption: true,
    start: () => startPeer({ namesDigest: true }),
  },
];
