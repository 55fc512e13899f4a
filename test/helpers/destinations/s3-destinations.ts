/** S3: a strict fake and a real server, many parts and one. */

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ListMultipartUploadsCommand, ListPartsCommand, S3Client } from '@aws-sdk/client-s3';
import { createNetworkAccess } from '../../../src/network/destination-policy.ts';
import { S3_LIMITS } from '../../../src/targets/s3/s3-options.ts';
import { KEY, SECRET, s3Target } from '../s3-export.ts';
import { BUCKET, type S3Fake, startS3Fake } from '../s3-fake.ts';
import type { TagKind } from '../s3-fake-tags.ts';
import { startVersitygw, VERSITYGW_KEYS, versitygwPath } from '../versitygw.ts';
import type { Destination, OpenUpload, Peer, TargetLimits } from './destination.ts';
import { peerCertificate } from './peer-certificate.ts';

const MIB = 1024 * 1024;
const CONCURRENCY = 3;

/** Few and quick retries of single parts, so that a lost network is detected soon. */
const limitsOf = ({ connectMs, idleMs, answerMs }: TargetLimits) => ({ connectMs, silentMs: idleMs, answerMs, tries: 2, backoffMs: 10 });

interface FakeVariant {
  partBytes: number;
  tls?: boolean;
  tags?: TagKind;
}

async function startFakePeer({ partBytes, tls = false, tags = 'amazon' }: FakeVariant): Promise<Peer> {
  let refuses = false;
  const identity = tls ? await peerCertificate() : undefined;
  const fake = await startS3Fake({
    minPartBytes: 1,
    tags,
    secret: SECRET,
    refuseKey: () => (refuses ? 'AccessDenied' : undefined),
    ...(identity === undefined ? {} : { tls: { cert: identity.certificate, key: identity.key } }),
  });
  return {
    port: Number(new URL(fake.url).port),
    image: async () => fake.store.objects.get(KEY)?.body,
    openUploads: async () => [...fake.store.uploads.values()].map(({ parts }) => ({ holdsBytes: parts.size > 0 })),
    announcedBytes: () => announcedTo(fake),
    spoil(does, times) {
      fake.quirks.splice(0, fake.quirks.length, { operation: 'UploadPart', times, does }, { operation: 'PutObject', times, does });
    },
    async refuse() {
      refuses = true;
    },
    createTarget: (port, limits, access = createNetworkAccess()) =>
      s3Target({
        url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
        options: {
          access,
          partSizeBytes: partBytes,
          concurrency: CONCURRENCY,
          ...(identity === undefined ? {} : { tls: { ca: identity.ca } }),
        },
        limits: { ...limitsOf(limits), minPartBytes: 1 },
      }),
    [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose](),
  };
}

/** The size of a part is announced before the part. */
function announcedTo({ requests }: S3Fake): number {
  const sends = requests.filter(({ operation }) => operation === 'UploadPart' || operation === 'PutObject');
  return sends.reduce((sum, { headers }) => sum + Number(headers['content-length']), 0);
}

async function startVersityPeer(directory: string): Promise<Peer> {
  const objects = path.join(directory, 'objects');
  mkdirSync(objects);
  const server = await startVersitygw(objects, BUCKET);
  let keys = VERSITYGW_KEYS;
  const client = new S3Client({ endpoint: server.url, region: 'us-east-1', forcePathStyle: true, credentials: keys });
  const object = server.objectPath(BUCKET, KEY);
  return {
    port: server.port,
    image: async () => (existsSync(object) ? readFileSync(object) : undefined),
    openUploads: () => openUploadsOf(client),
    announcedBytes: () => undefined,
    async refuse() {
      keys = { ...keys, secretAccessKey: 'another' };
    },
    createTarget: (port, limits, access = createNetworkAccess()) =>
      s3Target({
        url: `http://127.0.0.1:${port}`,
        options: { access, partSizeBytes: 5 * MIB, concurrency: CONCURRENCY, credentials: async () => keys },
        limits: { ...limitsOf(limits), lateMs: S3_LIMITS.lateMs, minPartBytes: 5 * MIB },
      }),
    async [Symbol.asyncDispose]() {
      client.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function openUploadsOf(client: S3Client): Promise<OpenUpload[]> {
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
  return Promise.all(
    Uploads.map(async ({ UploadId }) => {
      const { Parts = [] } = await client.send(new ListPartsCommand({ Bucket: BUCKET, Key: KEY, UploadId }));
      return { holdsBytes: Parts.length > 0 };
    }),
  );
}

const COMMON = {
  proof: 'etag',
  // The fake refuses the object only, which proves nothing about an upload.
  check: { connects: true, findsRefusal: false },
  refusal: { code: 'CredentialsInvalid', retryable: false, mostBytes: 8192 },
  announcesSize: true,
  findsCorruption: true,
  knowsLength: true,
} as const;

export const S3_DESTINATIONS: readonly Destination[] = [
  // Parts that were under way when the network was lost are sent again.
  { ...COMMON, name: 'S3', canSpoil: true, resendsBytes: (CONCURRENCY + 1) * MIB, start: () => startFakePeer({ partBytes: MIB }) },
  {
    ...COMMON,
    name: 'S3, one PutObject',
    canSpoil: true,
    sealsFirst: true,
    // Its SHA-256 is part of the signature, so the whole image is read before the first request.
    refusal: { ...COMMON.refusal, mostBytes: 32 * MIB },
    start: () => startFakePeer({ partBytes: 64 * MIB }),
  },
  // Servers whose tags are not Amazon's.
  {
    ...COMMON,
    name: 'S3 with tags of chunks',
    isVariant: true,
    canSpoil: true,
    start: () => startFakePeer({ partBytes: MIB, tags: 'of chunks' }),
  },
  {
    ...COMMON,
    name: 'S3 with tags of another hash',
    isVariant: true,
    canSpoil: true,
    proof: 'readBack',
    start: () => startFakePeer({ partBytes: MIB, tags: 'other hash' }),
  },
  {
    ...COMMON,
    name: 'S3, one PutObject, with tags of another hash',
    isVariant: true,
    canSpoil: true,
    sealsFirst: true,
    proof: 'readBack',
    refusal: { ...COMMON.refusal, mostBytes: 32 * MIB },
    start: () => startFakePeer({ partBytes: 64 * MIB, tags: 'other hash' }),
  },
  {
    ...COMMON,
    name: 'S3 at versitygw',
    check: { connects: true, findsRefusal: true },
    announcesSize: false,
    resendsBytes: (CONCURRENCY + 1) * 5 * MIB,
    isThere: () => existsSync(versitygwPath()),
    start: startVersityPeer,
  },
];
