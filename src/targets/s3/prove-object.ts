/**
 * Proves that an object is the image, by comparing the server's tags, checksums, length or bytes with our own. The
 * receipt names the comparison, and assumes nothing beyond it.
 */

import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { readBackLimitMs } from '../../network/answer-limits.ts';
import { isLookRefused, s3ErrorStatus } from '../../s3/s3-error.ts';
import { type ExpectedObject, type ExpectedPart, isTagOf, type PartProof, type Tagged } from './part-proof.ts';
import { type Arrival, retriesOf, type Transfer, withRetries } from './transfer.ts';

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
 * Refuses parts that contradict one another. Where some tags equal our MD5s, another tag of that form is the MD5 of
 * other bytes. Call this before the object is made of the parts.
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
 * @throws DiskliftError `ChecksumMismatch` when the object is not the image; another code when the server does not
 * answer
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
 * Searches the image that is being sent. Rejects a similar object, such as another export of the same disk, or an
 * export of yesterday.
 * @param expectedOf called only when there is an object to compare
 * @returns undefined when the object is missing, when it cannot be distinguished, or when the credentials do not allow
 * the request
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

/**
 * @returns the object's headers; 'missing'; undefined where the credentials or the server do not allow the request
 * @throws DiskliftError when the server does not answer
 */
async function lookAtObject(transfer: Transfer): Promise<HeadObjectCommandOutput | 'missing' | undefined> {
  const { session, options, context } = transfer;
  const { bucket: Bucket, key: Key } = options;
  const { signal } = context;
  try {
    return await withRetries(
      () => session.request(({ client, http }) => client.send(new session.sdk.HeadObjectCommand({ Bucket, Key }), http), { signal }),
      retriesOf(transfer),
    );
  } catch (error) {
    if (s3ErrorStatus(error) === 404) return 'missing';
    if (isLookRefused(error)) return undefined;
    throw error;
  }
}

/**
 * Reads these parts of the object, one after the other, and compares their MD5s. Stops at the first one that differs.
 * @returns undefined where the credentials or the server do not allow reading
 * @throws DiskliftError when the server does not answer
 */
async function isReadBackSame(transfer: Transfer, parts: readonly ExpectedPart[]): Promise<boolean | undefined> {
  for (const part of parts) {
    try {
      const md5 = await withRetries(() => md5OfRange(transfer, part), retriesOf(transfer));
      if (md5 !== part.md5) return md5 === undefined ? undefined : false;
    } catch (error) {
      if (isLookRefused(error)) return undefined;
      throw error;
    }
  }
  return true;
}

/**
 * @returns 'longer' for more bytes than requested; undefined when the server answers with another range than the
 * requested one
 */
function md5OfRange({ session, options, context, image }: Transfer, { offset, sizeBytes }: ExpectedPart): Promise<string | undefined> {
  const isWhole = sizeBytes === image.sizeBytes;
  const range = `bytes ${offset}-${offset + sizeBytes - 1}`;
  const input = { Bucket: options.bucket, Key: options.key, ...(isWhole ? {} : { Range: range.replace(' ', '=') }) };
  return session.request(
    async ({ client, http, onMove }) => {
      const { Body, ContentRange } = await client.send(new session.sdk.GetObjectCommand(input), http);
      const body = Body as Readable;
      const onAbort = () => body.destroy(new DiskliftError('Cancelled', 'nobody waits for it'));
      http.abortSignal.addEventListener('abort', onAbort, { once: true });
      try {
        if (!isWhole && ContentRange?.startsWith(`${range}/`) !== true) return undefined;
        const hash = createHash('md5');
        let leftBytes = sizeBytes;
        for await (const chunk of body as AsyncIterable<Buffer>) {
          onMove();
          leftBytes -= chunk.length;
          if (leftBytes < 0) return 'longer';
          hash.update(chunk);
        }
        return hash.digest('hex');
      } finally {
        http.abortSignal.removeEventListener('abort', onAbort);
        body.destroy();
      }
    },
    // The loop counts the bytes itself.
    { signal: context.signal, limitMs: session.limits.readBackMs ?? readBackLimitMs(sizeBytes), maxAnswerBytes: Number.POSITIVE_INFINITY },
  );
}

/**
 * Amazon's hosts. They honour the condition on every request, and refuse a look at a missing object without
 * `s3:ListBucket`.
 */
const AMAZON_HOST = /(^|\.)amazonaws\.com(\.cn)?$/;

/** The part of a request's input that makes the server check the key at the moment at which the object is made. */
export function conditionOf({ options }: Transfer): { IfNoneMatch?: '*' } {
  return options.ifNotExists ? { IfNoneMatch: '*' } : {};
}

/**
 * Looks at the key, because the server tells only at the end, and many servers ignore the condition. The object there
 * may be the image itself, as when the answer to an earlier attempt was lost.
 * @returns the image at the key; undefined where there is no object, or one may be replaced
 * @throws DiskliftError `DestinationRejected` for an object of other bytes; `CredentialsInvalid` where nothing would
 * show one
 */
export async function requireAbsent(transfer: Transfer, expectedOf: () => Promise<ExpectedObject>): ReturnType<typeof findArrived> {
  const { options, session } = transfer;
  if (!options.ifNotExists) return undefined;
  const object = await lookAtObject(transfer);
  if (object === 'missing') return undefined;
  if (object === undefined) {
    if (options.endpoint === undefined || AMAZON_HOST.test(new URL(options.endpoint).hostname)) return undefined;
    const message = `${session.where}: ifNotExists needs a look at the key, because the server may ignore If-None-Match`;
    throw new DiskliftError('CredentialsInvalid', `${message}: allow s3:GetObject and s3:ListBucket`);
  }
  const found = await findArrived(transfer, expectedOf);
  if (found === undefined) throw existsError(transfer);
  return found;
}

function existsError({ session }: Transfer, cause?: unknown): DiskliftError {
  const own = cause === undefined ? '' : ', perhaps from a request of this export whose answer was lost';
  const message = `there is an object at the key already${own}; ifNotExists keeps it: use another key, such as one with {timestamp}`;
  return new DiskliftError('DestinationRejected', `${session.where}: ${message}`, cause);
}

/** @returns the failure of a request with the condition, with what the condition has to do with it */
export function explained(transfer: Transfer, error: unknown): unknown {
  if (!transfer.options.ifNotExists || !(error instanceof DiskliftError)) return error;
  const status = s3ErrorStatus(error);
  if (status === 412) return existsError(transfer, error);
  if (status !== 400 && status !== 501) return error;
  const message = `${error.message}; if the server does not know If-None-Match, leave ifNotExists out and use a key that is never used twice`;
  return new DiskliftError(error.code, message, error, { retryable: error.retryable, retryAfterMs: error.retryAfterMs });
}
