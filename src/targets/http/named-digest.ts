/** What a server says of the bytes that it has. */

import { createHash } from 'node:crypto';
import type { Answer } from './judge-answer.ts';

export interface NamedDigest {
  algorithm: 'sha256' | 'md5';
  hex: string;
}

interface DigestHeader {
  /** As Node has it. */
  name: string;
  algorithm: NamedDigest['algorithm'];
  /** Its first group is the digest in base64. */
  pattern: RegExp;
}

/** In the order of their worth. */
const HEADERS: readonly DigestHeader[] = [
  // RFC 9530, section 3
  { name: 'repr-digest', algorithm: 'sha256', pattern: /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/ },
  // RFC 3230, section 4.3.2, which it replaces
  { name: 'digest', algorithm: 'sha256', pattern: /(?:^|,)\s*sha-256=([A-Za-z0-9+/]{43}=)\s*(?:$|,)/i },
  // RFC 1864
  { name: 'content-md5', algorithm: 'md5', pattern: /^\s*([A-Za-z0-9+/]{22}==)\s*$/ },
];

/** @returns the best digest that the answer names of the image, or undefined where it names none */
export function namedDigest({ headers, text }: Pick<Answer, 'headers' | 'text'>): NamedDigest | undefined {
  for (const { name, algorithm, pattern } of HEADERS) {
    const value = headers[name]?.match(pattern)?.[1];
    if (value === undefined) continue;
    const hex = Buffer.from(value, 'base64').toString('hex');
    // Some servers put the digest of their answer's own text into every answer.
    if (hex !== createHash(algorithm).update(text, 'latin1').digest('hex')) return { algorithm, hex };
  }
  return undefined;
}
