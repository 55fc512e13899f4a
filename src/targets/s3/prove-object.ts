/**
 * Proves that an object is the image, by comparing the server's tags, checksums, length or bytes with our own. The receipt names the
 * comparison, and assumes nothing beyond it.
 */

import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { isTagOf, type Tagged } from './etag.ts';
import type { ExpectedObject, ExpectedPart } from './expected-object.ts';
import type { PartProof } from './judge-part.ts';
import { lookAtObject } from './look-at-object.ts';
import { isReadBackSame } from './read-back.ts';
import { s3ErrorStatus } from './s3-error.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

type Found = Omit<Arrival, 'sha256'>;

/** Whether the server may have carried out the request without confirming it. */
export function isAmbiguous(error: unknown): boolean {
  if (!(error instanceof DiskliftError) || !['DestinationUnreachable', 'DestinationRejected'].includes(error.code)) return false;
  const status = s3ErrorStatus(error);
  return status === undefined || status < 400 || status >= 500;
}

/** As {@link isAmbiguous}, and also for a refusal because the object exists: an earlier request may have made it. */
export function mayHaveArrived(error: unknown): boolean {
  return isAmbiguous(error) || isExistsRefusal(error);
}

/** Whether the server refuses because the object exists. */
export function isExistsRefusal(error: unknown): boolean {
  return [409, 412].includes(s3ErrorStatus(error) ?? 0);
}

/**
 * Refuses parts that contradict one another. Where some tags equal our MD5s, another tag of that form is the MD5 of other bytes. Call this
 * before the object is made of the parts.
 * @throws DiskliftError `ChecksumMismatch`
 */
export function assertConsistent(parts: readonly ExpectedPart[], where: string): void {
  const other = parts.find(({ hasOtherTag }) => hasOtherTag);
  if (other === undefined || !parts.some(({ proof }) => proof === 'etag')) return;
  throw new DiskliftError('ChecksumMismatch', `${where}: the tag of part ${other.number} is the MD5 of other bytes than those sent`);
}

/**
 * Judges an object that the server has just confirmed.
 * @param answer to the request that made it
 * @throws DiskliftError `ChecksumMismatch` when the object is not the image; another code when the server does not answer
 */
export async function proveObject(transfer: Transfer, expected: ExpectedObject, answer: Tagged): Promise<Found> {
  const seen = await withRetries(() => lookAtConfirmed(transfer), retriesOf(transfer));
  // Another export may have replaced the object in the meantime.
  const object = seen !== undefined && mayBeImage(transfer, seen) ? seen : undefined;
  return judge(transfer, expected, { answer, object });
}

/** Some servers confirm an object a little before they list it. */
async function lookAtConfirmed(transfer: Transfer): Promise<HeadObjectCommandOutput | undefined> {
  const seen = await lookAtObject(transfer);
  if (seen !== 'missing') return seen;
  const message = `${transfer.session.where}: the server has confirmed the object, and does not have it`;
  throw new DiskliftError('DestinationRejected', message, undefined, { retryable: true });
}

/**
 * Searches the image that is being sent. Rejects a similar object, such as another export of the same disk, or an export of yesterday.
 * @param expectedOf called only when there is an object to compare
 * @returns undefined when the object is missing, when it cannot be distinguished, or when the credentials do not allow the request
 * @throws DiskliftError when the server does not answer; `ChecksumMismatch` when this attempt's object has other bytes
 */
export async function findArrived(transfer: Transfer, expectedOf: () => Promise<ExpectedObject>): Promise<Found | undefined> {
  const { image, nonce } = transfer;
  const object = await lookAtObject(transfer);
  if (object === undefined || object === 'missing' || !mayBeImage(transfer, object)) return undefined;
  if (object.Metadata?.['disklift-upload'] === nonce) return judge(transfer, await expectedOf(), { answer: object, object });
  if (object.ContentLength !== image.sizeBytes) return undefined;
  const { tag, parts } = await expectedOf();
  const etag = object.ETag;
  if (isTagOf(tag, object) === true) return { etag, proof: 'etag' };
  return (await isReadBackSame(transfer, parts)) === true ? { etag, proof: 'readBack' } : undefined;
}

/** Some servers lose the metadata of objects. */
function mayBeImage({ image }: Transfer, { Metadata }: HeadObjectCommandOutput): boolean {
  return (Metadata?.['disklift-fingerprint'] ?? image.fingerprint) === image.fingerprint;
}

interface Evidence {
  /** The answer with the object's tag. */
  answer: Tagged;
  /** The object at the key; absent where the credentials do not allow the request. */
  object: HeadObjectCommandOutput | undefined;
}

async function judge(transfer: Transfer, { tag, parts }: ExpectedObject, { answer, object }: Evidence): Promise<Found> {
  const { image, session } = transfer;
  const sizeBytes = object?.ContentLength;
  if (sizeBytes !== undefined && sizeBytes !== image.sizeBytes)
    throw new DiskliftError('ChecksumMismatch', `${session.where}: the object has ${sizeBytes} bytes, and ${image.sizeBytes} were sent`);
  const etag = answer.ETag;
  if (isTagOf(tag, answer) === true) return { etag, proof: 'etag' };
  const unproven = parts.filter(({ proof }) => proof === undefined);
  const isSame = await isReadBackSame(transfer, unproven.length > 0 ? unproven : samplesOf(parts));
  if (isSame === false)
    throw new DiskliftError('ChecksumMismatch', `${session.where}: the object was read back, and has other bytes than those sent`);
  if (unproven.length === 0) return { etag, proof: weakest(parts) };
  return { etag, proof: isSame === true ? 'readBack' : sizeBytes === undefined ? 'status' : 'length' };
}

/** Samples of proven parts, enough to check that the server joined them in order. */
function samplesOf(parts: readonly ExpectedPart[]): ExpectedPart[] {
  const last = parts.length - 1;
  return [...new Set([0, last >> 1, last])].flatMap((index) => parts[index] ?? []);
}

function weakest(parts: readonly ExpectedPart[]): PartProof {
  return parts.some(({ proof }) => proof === 'checksum') ? 'checksum' : 'etag';
}
