/** Whether the server has what was sent. */

import { createHash } from 'node:crypto';
import { DiskliftError } from '../../common/errors.ts';
import type { VirtualImage } from '../../image/contract.ts';
import type { Seal } from '../contract.ts';
import type { Answer } from './judge-answer.ts';
import { type NamedDigest, namedDigest } from './named-digest.ts';

export interface Sent {
  image: VirtualImage;
  seal: Seal;
  /** The URL as it may be shown. */
  where: string;
  signal: AbortSignal;
}

const NAMES: Readonly<Record<NamedDigest['algorithm'], string>> = { sha256: 'SHA-256', md5: 'MD5' };

/**
 * A digest that was not computed while the image was sent is computed now, by another read of it: few servers name one.
 * @returns whether the answer names a digest, and so proves that the image arrived
 * @throws DiskliftError `ChecksumMismatch`; and as reading the image
 */
export async function compareDigest(answer: Answer, { image, seal, where, signal }: Sent): Promise<boolean> {
  const theirs = namedDigest(answer);
  if (theirs === undefined) return false;
  const { algorithm, hex } = theirs;
  const known = algorithm === 'sha256' ? seal.sha256 : undefined;
  const ours = known ?? (await hashImage(image, algorithm, signal));
  if (ours !== hex)
    throw new DiskliftError('ChecksumMismatch', `${where}: the server has ${NAMES[algorithm]} ${hex}, and ${ours} was sent`);
  return true;
}

async function hashImage(image: VirtualImage, algorithm: NamedDigest['algorithm'], signal: AbortSignal): Promise<string> {
  const hash = createHash(algorithm);
  for await (const chunk of image.stream({ signal })) hash.update(chunk);
  return hash.digest('hex');
}
