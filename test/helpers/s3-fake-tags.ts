/** The tags that S3 servers give to parts and objects. */

import { createHash } from 'node:crypto';

interface TaggedPart {
  body: Buffer;
  etag: string;
}

interface TagMaker {
  /** The tag of a part, or of an object that came in one request. */
  ofBytes(body: Buffer): string;
  ofParts(parts: readonly TaggedPart[]): string;
}

const md5 = (...pieces: (Buffer | string)[]) => {
  const hash = createHash('md5');
  for (const piece of pieces) hash.update(piece);
  return hash.digest();
};
const md5Hex = (body: Buffer) => md5(body).toString('hex');
const bodiesOf = (parts: readonly TaggedPart[]) => parts.map(({ body }) => body);
const composite = (bodies: readonly Buffer[]) => `${md5(...bodies.map((body) => md5(body))).toString('hex')}-${bodies.length}`;
const otherHash = (body: Buffer) => createHash('sha256').update(body).digest('hex').slice(0, 32);

const CHUNK_BYTES = 100_000;

function chunksOf(body: Buffer): Buffer[] {
  return Array.from({ length: Math.ceil(body.length / CHUNK_BYTES) }, (_, index) =>
    body.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
  );
}

/** Tags of real servers; 'other hash' imitates the tags of encrypted bytes. */
export const TAG_MAKERS = {
  amazon: { ofBytes: md5Hex, ofParts: (parts) => composite(bodiesOf(parts)) },
  'upper case': { ofBytes: (body) => md5Hex(body).toUpperCase(), ofParts: (parts) => composite(bodiesOf(parts)).toUpperCase() },
  /** Encryption with the customer's keys: the tags do not have the form of an MD5. */
  opaque: { ofBytes: (body) => `opaque-${md5(body).toString('base64url')}`, ofParts: (parts) => `opaque-${parts.length}` },
  /** SeaweedFS counts the chunks in which it stores a part. */
  'of chunks': { ofBytes: md5Hex, ofParts: (parts) => composite(parts.flatMap(({ body }) => chunksOf(body))) },
  /** s3gw. */
  constant: { ofBytes: md5Hex, ofParts: (parts) => `${md5().toString('hex')}-${parts.length}` },
  'of the tags as text': {
    ofBytes: md5Hex,
    ofParts: (parts) => `${md5(...parts.map(({ etag }) => etag)).toString('hex')}-${parts.length}`,
  },
  /** s3rver, rclone. */
  'of the whole': { ofBytes: md5Hex, ofParts: (parts) => md5(...bodiesOf(parts)).toString('hex') },
  'other hash': { ofBytes: otherHash, ofParts: (parts) => `${otherHash(Buffer.concat(bodiesOf(parts)))}-${parts.length}` },
  'other hash of parts': { ofBytes: otherHash, ofParts: (parts) => composite(bodiesOf(parts)) },
} satisfies Record<string, TagMaker>;

export type TagKind = keyof typeof TAG_MAKERS;
