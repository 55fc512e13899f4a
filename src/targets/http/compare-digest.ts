/** Whether the server has what was sent. */

import { createHash } from 'node:crypto';
import { DiskliftError } from '../../common/errors.ts';
import type { VirtualImage } from '../../image/contract.ts';
import type { Seal } from '../contract.ts';
import type { Answer } from './answer.ts';
import { type DigestAlgorithm, imageDigest } from './named-digest.ts';

export interface Sent {
  image: VirtualImage;
  seal: Seal;
  /** The URL as it may be shown. */
  where: string;
  signal: AbortSignal;
}

const NAMES: Readonly<Record<DigestAlgorithm, string>> = { sha256: 'SHA-256', sha512: 'SHA-512', md5: 'MD5' };

/**
 * A digest that was not computed while the image was sent is computed now, by another read of it: few servers name one.
 * @returns whether the answer names a digest, and so proves that the image arrived
 * @throws DiskliftError `ChecksumMismatch`; and as reading the image
 */
export async function compareDigest(answer: Answer, { image, seal, where, signal }: Sent): Promise<boolean> {
  const theirs = imageDigest(answer);
  if (theirs === undefined) return false;
  const { algorithm, hex } = theirs;
  const ours = await digestOf(image, { algorithm, seal, signal });
  if (ours === hex) return true;
  // A text that did not end has no digest, so the named digest may be the text's own. It then proves nothing about the image.
  const doubt = answer.textDigests === undefined ? '; its answer did not end, so this may be the digest of the answer' : '';
  throw new DiskliftError('ChecksumMismatch', `${where}: the server has ${NAMES[algorithm]} ${hex}, and ${ours} was sent${doubt}`);
}

interface Wanted {
  algorithm: DigestAlgorithm;
  seal: Seal;
  signal: AbortSignal;
}

/** @returns the image's digest in hex: from the seal, or computed by reading the image */
export async function digestOf(image: VirtualImage, { algorithm, seal, signal }: Wanted): Promise<string> {
  if (algorithm === 'sha256' && seal.sha256 !== undefined) return seal.sha256;
  const hash = createHash(algorithm);
  for await (const chunk of image.stream({ signal })) hash.update(chunk);
  return hash.digest('hex');
}
