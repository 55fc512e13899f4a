/** What the tags of S3 say about bytes. "Checking object integrity" in the user guide of Amazon S3. */

import { createHash } from 'node:crypto';

/** The part of the SDK's answers that is about a tag. */
export interface Tagged {
  ETag?: string | undefined;
  ServerSideEncryption?: string | undefined;
  SSECustomerAlgorithm?: string | undefined;
}

const MD5_SHAPE = /^"?([0-9a-f]{32})"?$/i;
const COMPOSITE_SHAPE = /^"?([0-9a-f]{32}-\d+)"?$/i;

/** Amazon's tag of a multipart object: the MD5 of the parts' MD5s, and the number of parts. @param md5s in hex, in order */
export function compositeEtag(md5s: readonly string[]): string {
  const hash = createHash('md5');
  for (const md5 of md5s) hash.update(md5, 'hex');
  return `${hash.digest('hex')}-${md5s.length}`;
}

/**
 * Compares a server's tag with the one that Amazon would give these bytes.
 * A different tag proves nothing by itself, because other servers compute tags of the same form in other ways.
 * @param expected the MD5 of the bytes, or {@link compositeEtag} of their parts
 * @returns undefined when the tag does not have that form
 */
export function isTagOf(expected: string, { ETag, ServerSideEncryption, SSECustomerAlgorithm }: Tagged): boolean | undefined {
  const theirs = (expected.includes('-') ? COMPOSITE_SHAPE : MD5_SHAPE).exec(ETag ?? '')?.[1]?.toLowerCase();
  if (theirs === expected) return true;
  // Tags of what is encrypted with keys of the customer's look like MD5s and are none.
  const isOther = (ServerSideEncryption ?? 'AES256') !== 'AES256' || SSECustomerAlgorithm !== undefined;
  return theirs === undefined || isOther ? undefined : false;
}
