/** Judges an answer about a part: compares the server's tag and checksum with our own, to prove that the server has the bytes sent. */

import { type Checksum, checksumOf, isSameChecksum, kindOf } from './checksum.ts';
import { isTagOf, type Tagged } from './etag.ts';
import type { PartBytes } from './part-bytes.ts';

/** 'etag': the server's tag equals our MD5 of the bytes. 'checksum': the server's CRC of the bytes equals ours. */
export type PartProof = 'etag' | 'checksum';

export interface PartVerdict {
  /** In hex, of our bytes. */
  md5: string;
  /** Absent when the answer has neither a usable tag nor a checksum. */
  proof?: PartProof;
  /**
   * The tag has the form of an MD5 but is not ours. Either the server has other bytes, or it computes tags in another way; the tags of the
   * other parts decide.
   */
  hasOtherTag: boolean;
}

/**
 * @param ours the requested checksum
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
  // A checksum that was not requested is computed only when the tag decides nothing.
  if (isTag !== true) isSame ??= isSameChecksum(await checksumOf(kindOf(answer), bytes, signal), answer);
  if (isSame === false) return undefined;
  const verdict = { md5, hasOtherTag: isTag === false };
  if (isTag === true) return { ...verdict, proof: 'etag' };
  return isSame === true ? { ...verdict, proof: 'checksum' } : verdict;
}
