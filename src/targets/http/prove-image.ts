/** Proves that the server has the image: by a digest that its answer names, or by reading the stored bytes back. */

import { createHash } from 'node:crypto';
import { DiskliftError } from '../../common/errors.ts';
import type { VirtualImage } from '../../image/contract.ts';
import { readBackLimitMs } from '../../network/answer-limits.ts';
import type { Seal } from '../contract.ts';
import { type Answer, type DigestAlgorithm, imageDigest } from './answer.ts';
import { type Query, type QueryLimits, sendQuery, type WantedBody } from './send-query.ts';

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
  // A text that did not end has no digest, so the named digest may be the text's own. It then proves nothing about the
  // image.
  const doubt = answer.textDigests === undefined ? '; its answer did not end, so this may be the digest of the answer' : '';
  throw new DiskliftError('ChecksumMismatch', `${where}: the server has ${NAMES[algorithm]} ${hex}, and ${ours} was sent${doubt}`);
}

interface Wanted {
  algorithm: DigestAlgorithm;
  seal: Seal;
  signal: AbortSignal;
}

/** @returns the image's digest in hex: from the seal, or computed by reading the image */
async function digestOf(image: VirtualImage, { algorithm, seal, signal }: Wanted): Promise<string> {
  if (algorithm === 'sha256' && seal.sha256 !== undefined) return seal.sha256;
  const hash = createHash(algorithm);
  for await (const chunk of image.stream({ signal })) hash.update(chunk);
  return hash.digest('hex');
}

export interface LookupLimits extends QueryLimits {
  /** Limit of reading the stored bytes, in all; `readBackLimitMs` when left out. */
  readBackMs?: number | undefined;
}

export interface Lookup extends Omit<Query, 'method' | 'limits'> {
  image: VirtualImage;
  limits: LookupLimits;
  /** Called when the stored object has the image's size. */
  seal(): Promise<Seal>;
}

/** Result of the look-up. */
export type Found =
  | { isImage: true; answer: Answer; seal: Seal }
  /** `reason` continues the sentence of the upload's failure. */
  | { isImage: false; reason: string };

/**
 * Reads the stored object and compares the SHA-256 of all its bytes with the image's. Equal size alone would not
 * identify the disk.
 * @throws DiskliftError `Cancelled`; failures of reading and sealing the image. A server that cannot be asked is no
 * failure
 */
export async function lookUp(lookup: Lookup): Promise<Found> {
  const { image, signal } = lookup;
  const head = await asked(lookup, 'HEAD');
  if (head instanceof DiskliftError) return unknown(head.message);
  // Servers that do not support HEAD may support GET.
  if (head.status !== 200 && head.status !== 405 && head.status !== 501) return missing('HEAD', head);
  const size = head.status === 200 ? sizeOf(head) : undefined;
  if (size !== undefined && size !== image.sizeBytes) return other(size, image);
  const seal = await lookup.seal();
  const ours = await digestOf(image, { algorithm: 'sha256', seal, signal });
  const hash = createHash('sha256');
  let sizeBytes = 0;
  const take = (bytes: Buffer) => {
    hash.update(bytes);
    sizeBytes += bytes.length;
    return sizeBytes <= image.sizeBytes;
  };
  const body = await asked(lookup, 'GET', { take, limitMs: lookup.limits.readBackMs ?? readBackLimitMs(image.sizeBytes) });
  if (body instanceof DiskliftError) return unknown(body.message);
  if (body.status !== 200) return missing('GET', body);
  if (sizeBytes !== image.sizeBytes) return other(sizeBytes, image);
  return hash.digest('hex') === ours ? { isImage: true, answer: body, seal } : { isImage: false, reason: 'other bytes are there' };
}

/** @returns the failure where the server cannot be asked */
async function asked(lookup: Lookup, method: 'HEAD' | 'GET', wanted?: WantedBody): Promise<Answer | DiskliftError> {
  try {
    return await sendQuery({ ...lookup, method }, wanted);
  } catch (error) {
    if (lookup.signal.aborted || !(error instanceof DiskliftError)) throw error;
    return error;
  }
}

function sizeOf({ headers }: Answer): number | undefined {
  const text = headers['content-length'];
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function missing(method: string, { status }: Answer): Found {
  if (status === 404 || status === 410) return { isImage: false, reason: 'nothing is there' };
  return unknown(`${method} was answered ${status}`);
}

function unknown(why: string): Found {
  return { isImage: false, reason: `the image may be there, which could not be looked up: ${why}` };
}

function other(sizeBytes: number, image: VirtualImage): Found {
  const what =
    sizeBytes > image.sizeBytes
      ? `more than the image's ${image.sizeBytes} bytes are there`
      : `${sizeBytes} of ${image.sizeBytes} bytes are there`;
  return { isImage: false, reason: what };
}
