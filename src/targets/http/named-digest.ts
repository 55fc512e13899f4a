/** Digests in a server's answer. */

import type { Answer } from './answer.ts';

/** Names of algorithms in node:crypto. */
export type DigestAlgorithm = 'sha256' | 'sha512' | 'md5';

export interface NamedDigest {
  algorithm: DigestAlgorithm;
  hex: string;
}

interface DigestHeader {
  /** As Node has it. */
  name: string;
  algorithm: DigestAlgorithm;
  /** The first group is the digest, in base64 or hexadecimal digits. */
  pattern: RegExp;
}

/** In the order of their worth. */
const HEADERS: readonly DigestHeader[] = [
  // RFC 9530, section 3
  { name: 'repr-digest', algorithm: 'sha256', pattern: /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/ },
  { name: 'repr-digest', algorithm: 'sha512', pattern: /(?:^|,)\s*sha-512=:([A-Za-z0-9+/]{86}==):/ },
  // RFC 3230, section 4.3.2, the predecessor of Repr-Digest; some servers write hexadecimal digits instead of base64.
  { name: 'digest', algorithm: 'sha256', pattern: /(?:^|,)\s*sha-256=([A-Za-z0-9+/]{43}=|[0-9a-f]{64})\s*(?:$|,)/i },
  { name: 'digest', algorithm: 'sha512', pattern: /(?:^|,)\s*sha-512=([A-Za-z0-9+/]{86}==|[0-9a-f]{128})\s*(?:$|,)/i },
  { name: 'digest', algorithm: 'md5', pattern: /(?:^|,)\s*md5=([A-Za-z0-9+/]{22}==|[0-9a-f]{32})\s*(?:$|,)/i },
  // Amazon S3, for a PUT by a presigned URL that requests a checksum
  { name: 'x-amz-checksum-sha256', algorithm: 'sha256', pattern: /^\s*([A-Za-z0-9+/]{43}=)\s*$/ },
  // Registries (OCI distribution specification)
  { name: 'docker-content-digest', algorithm: 'sha256', pattern: /^\s*sha256:([0-9a-f]{64})\s*$/ },
  // RFC 1864
  { name: 'content-md5', algorithm: 'md5', pattern: /^\s*([A-Za-z0-9+/]{22}==|[0-9a-f]{32})\s*$/i },
  // Google Cloud Storage
  { name: 'x-goog-hash', algorithm: 'md5', pattern: /(?:^|,)\s*md5=([A-Za-z0-9+/]{22}==)\s*(?:$|,)/ },
];

/** @returns all digests in the headers, the strongest first, even those of other bytes than the image's */
export function namedDigests(headers: Answer['headers']): NamedDigest[] {
  return HEADERS.flatMap(({ name, algorithm, pattern }) => {
    const value = headers[name]?.match(pattern)?.[1];
    if (value === undefined) return [];
    const hex = /^[0-9a-f]+$/i.test(value) ? value.toLowerCase() : Buffer.from(value, 'base64').toString('hex');
    return [{ algorithm, hex }];
  });
}

/** The digest of the image. Excludes the digest of the answer's own text, which some servers add to every answer. */
export function imageDigest({ headers, textDigests }: Pick<Answer, 'headers' | 'textDigests'>): NamedDigest | undefined {
  return namedDigests(headers).find(({ algorithm, hex }) => textDigests?.get(algorithm) !== hex);
}
