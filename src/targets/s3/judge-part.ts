/** What an answer about a part shows: whether the server has the bytes that were sent, by comparing with what we computed ourselves. */

import { type Checksum, checksumOf, isSameChecksum, kindOf } from './checksum.ts';
import { isTagOf, type Tagged } from './etag.ts';
import type { PartBytes } from './part-bytes.ts';

/** 'etag': the server's tag is our MD5 of the bytes. 'checksum': the server named a CRC of the bytes that is ours. */
export type PartProof = 'etag' | 'checksum';

export interface PartVerdict {
  /** In hex, of our bytes. */
  md5: string;
  /** Absent when nothing in the answer is about these bytes. */
  proof?: PartProof;
  /**
   * The tag looks like an MD5 and is another one: either the server has other bytes, or its tags are of another kind. The tags of the
   * other parts tell which.
   */
  hasOtherTag: boolean;
}

/**
 * @param ours the checksum that was asked for
 * @returns undefined when the server has other bytes
 * @throws DiskliftError `Cancelled`, or as {@link PartBytes.pieces}
 */
export async function judgePart(
  bytes: PartBytes,
  answer: Tagged & Checksum,
  { ours, signal }: { ours: Checksum; signal: AbortSignal },
): Promise<PartVerdict | undefined> {
  const md5 = await bytes.md5(signal);
  const isTag = isTagOf(md5, answer);
  let isSame = isSameChecksum(ours, answer);
  // A checksum that nobody asked for is computed only when nothing else is known.
  if (isTag !== true) isSame ??= isSameChecksum(await checksumOf(kindOf(answer), bytes, signal), answer);
  if (isSame === false) return undefined;
  const verdict = { md5, hasOtherTag: isTag === false };
  if (isTag === true) return { ...verdict, proof: 'etag' };
  return isSame === true ? { ...verdict, proof: 'checksum' } : verdict;
}
