/** HTTP servers that take an image whole: without TLS, with it, and one that names the digest of what it has. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { systemClock } from '../../../src/common/clock.ts';
import { createHttpTarget } from '../../../src/targets/http/http-target.ts';
import { createNetworkAccess } from '../../../src/targets/policy/network-access.ts';
import { type HttpSink, type HttpSinkOptions, startHttpSink } from '../http-sink.ts';
import { createTestAuthority } from '../test-authority.ts';
import type { Destination, Peer } from './destination.ts';

const PATH = '/disks/a.qcow2';

const NETWORK = { access: createNetworkAccess() };

interface Variant {
  tls?: boolean;
  namesDigest?: boolean;
}

async function startPeer(directory: string, { tls = false, namesDigest = false }: Variant): Promise<Peer> {
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
  const authority = tls ? await createTestAuthority(directory) : undefined;
  if (authority !== undefined) {
    const { certificate: cert, key } = await authority.issue('sink', 'IP:127.0.0.1');
    sinkOptions.tls = { cert, key };
  }
  const sink: HttpSink = await startHttpSink(sinkOptions);
  return {
    port: Number(new URL(sink.url).port),
    image: async () => sink.complete.get(PATH),
    openUploads: async () => 0,
    announcedBytes: () => Number(sink.requests.at(-1)?.headers['content-length'] ?? assert.fail('no request')),
    refuse() {
      refuses = true;
    },
    createTarget: (port, limits) =>
      createHttpTarget({
        url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}${PATH}`,
        method: 'PUT',
        ...(authority === undefined ? {} : { tls: { ca: authority.ca } }),
        ...NETWORK,
        clock: systemClock,
        limits,
      }),
    [Symbol.asyncDispose]: () => sink[Symbol.asyncDispose](),
  };
}

const COMMON = {
  proof: 'status',
  refusal: { code: 'CredentialsInvalid', retryable: false, mostBytes: 4096 },
  announcesSize: true,
} as const;

export const HTTP_DESTINATIONS: readonly Destination[] = [
  // Nothing in plain HTTP tells a server that a bit is wrong, and nothing in its answer tells us.
  { ...COMMON, name: 'HTTP', findsCorruption: false, start: (directory) => startPeer(directory, {}) },
  { ...COMMON, name: 'HTTPS', findsCorruption: true, start: (directory) => startPeer(directory, { tls: true }) },
  {
    ...COMMON,
    name: 'HTTP with Repr-Digest',
    proof: 'digest',
    findsCorruption: true,
    start: (directory) => startPeer(directory, { namesDigest: true }),
  },
];
