/** What the tags of S3 say about bytes. "Checking object integrity" in the user guide of Amazon S3. */

import { createHash } from 'node:crypto';
import { DiskliftError } from '../../common/errors.ts';

/** The part of the SDK's answers that is about a tag. */
export interface Tagged {
  ETag?: string | undefined;
  ServerSideEncryption?: string | undefined;
  SSECustomerAlgorithm?: string | undefined;
}

const MD5_SHAPE = /^"?([0-9a-f]{32})"?$/;
const COMPOSITE_SHAPE = /^"?([0-9a-f]{32}-\d+)"?$/;

/** @returns the MD5, in hex, that a tag of one request's bytes looks like */
export function md5OfEtag(etag: string | undefined): string | undefined {
  return MD5_SHAPE.exec(etag ?? '')?.[1];
}

/**
 * The tag of an object that is made of parts: the MD5 of their MD5s, and their number.
 * @returns undefined when a tag is no MD5, as with some kinds of encryption
 */
export function compositeEtag(partEtags: readonly (string | undefined)[]): string | undefined {
  const hash = createHash('md5');
  for (const etag of partEtags) {
    const md5 = md5OfEtag(etag);
    if (md5 === undefined) return undefined;
    hash.update(md5, 'hex');
  }
  return `${hash.digest('hex')}-${partEtags.length}`;
}

/**
 * @param expected the MD5 of the bytes, or the tag of their parts
 * @returns undefined when the server's tag says nothing about bytes
 */
export function isTagOf(expected: string | undefined, { ETag, ServerSideEncryption, SSECustomerAlgorithm }: Tagged): boolean | undefined {
  // Tags of what is encrypted with keys of the customer's look like MD5s and are none.
  const isOther = (ServerSideEncryption ?? 'AES256') !== 'AES256' || SSECustomerAlgorithm !== undefined;
  if (expected === undefined || isOther) return undefined;
  const theirs = (expected.includes('-') ? COMPOSITE_SHAPE : MD5_SHAPE).exec(ETag ?? '')?.[1];
  return theirs === undefined ? undefined : theirs === expected;
}

/** @throws DiskliftError `ChecksumMismatch` when the tag shows that the server has other bytes */
export function proofOf(expected: string | undefined, tagged: Tagged, where: string): 'etag' | 'status' {
  const isSame = isTagOf(expected, tagged);
  if (isSame === false)
    throw new DiskliftError('ChecksumMismatch', `${where}: the server has an object with tag ${tagged.ETag}, and ${expected} was sent`);
  return isSame === true ? 'etag' : 'status';
}
