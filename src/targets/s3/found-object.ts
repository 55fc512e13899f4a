/** What lies at the key: asked for when it is not clear what has become of a request. */

import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { isTagOf, proofOf } from './etag.ts';
import { s3ErrorStatus } from './s3-error.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/** Whether the server may have done what it was asked for, although it has not said so. */
export function isAmbiguous(error: unknown): boolean {
  if (!(error instanceof DiskliftError) || !['DestinationUnreachable', 'DestinationRejected'].includes(error.code)) return false;
  const status = s3ErrorStatus(error);
  return status === undefined || status < 400 || status >= 500;
}

/** As {@link isAmbiguous}; and refusals of an object that is there already: it may be what an earlier request has made. */
export function mayHaveArrived(error: unknown): boolean {
  return isAmbiguous(error) || [409, 412].includes(s3ErrorStatus(error) ?? 0);
}

/**
 * Looks for the image that is being sent, and does not believe in what is only like it: another export of the same disk, or of
 * what the disk was yesterday.
 * @param tagOfBytes gives the tag that the image has when it arrives as it should; asked only when there is something to compare
 * @returns undefined when it is not there, or cannot be told from others, or when the credentials do not allow to look
 * @throws DiskliftError when there is no answer; `ChecksumMismatch` when this attempt's object has other bytes
 */
export async function findArrived(
  transfer: Transfer,
  tagOfBytes: () => Promise<string | undefined>,
): Promise<Omit<Arrival, 'sha256'> | undefined> {
  const { image, nonce, session } = transfer;
  const found = await headObject(transfer);
  if (found?.ContentLength !== image.sizeBytes || found.Metadata?.['disklift-fingerprint'] !== image.fingerprint) return undefined;
  const expected = await tagOfBytes();
  if (found.Metadata['disklift-upload'] !== nonce && isTagOf(expected, found) !== true) return undefined;
  return { etag: found.ETag, proof: proofOf(expected, found, session.where) };
}

async function headObject(transfer: Transfer): Promise<HeadObjectCommandOutput | undefined> {
  const { session, options, context } = transfer;
  const { bucket: Bucket, key: Key } = options;
  const { signal } = context;
  try {
    return await withRetries(
      () => session.request(({ client, http }) => client.send(new session.sdk.HeadObjectCommand({ Bucket, Key }), http), { signal }),
      retriesOf(transfer),
    );
  } catch (error) {
    const status = s3ErrorStatus(error);
    if (status !== undefined && status >= 400 && status < 500) return undefined;
    throw error;
  }
}
