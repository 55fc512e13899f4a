/** One part of an upload. */

import type { CompletedPart, Part as ListedPart } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { type Checksum, checksumOf, isSameChecksum } from './checksum.ts';
import { md5OfEtag } from './etag.ts';
import { digestOf } from './hash-pieces.ts';
import type { PartBytes } from './part-bytes.ts';
import { createPayload } from './payload.ts';
import { sendPayload } from './send-payload.ts';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

export interface PartToSend {
  uploadId: string;
  number: number;
  bytes: PartBytes;
}

/** Sends a part, again by itself where that fails. @throws DiskliftError */
export async function sendPart(transfer: Transfer, { uploadId, number, bytes }: PartToSend): Promise<CompletedPart> {
  const { session, options, context } = transfer;
  const about = { Bucket: options.bucket, Key: options.key, UploadId: uploadId, PartNumber: number };
  const { signal } = context;
  const payload = await createPayload(bytes, { isSigned: session.isPlain, checksum: options.checksum, signal });
  const answer = await withRetries(
    () => sendPayload(session, payload, { signal, command: (body) => new session.sdk.UploadPartCommand({ ...body, ...about }) }),
    retriesOf(transfer),
  );
  if (answer.ETag === undefined)
    throw new DiskliftError('DestinationRejected', `${session.where}: answered without the tag of part ${number}`);
  return { PartNumber: number, ETag: answer.ETag, ...payload.checksum };
}

/**
 * What the server holds already, when it is these very bytes. A part is there whole or not at all, and equal fingerprints promise
 * equal bytes; but of a block device nothing tells that it was written to between two attempts, and two of its states must not end in
 * one image. The bytes have to be read in any case: what is sent is hashed from its beginning. A server whose tags say nothing gets
 * the part again.
 */
export async function heldPart(
  listed: ListedPart | undefined,
  bytes: PartBytes,
  { options, context: { signal } }: Transfer,
): Promise<CompletedPart | undefined> {
  if (listed?.Size !== bytes.sizeBytes || listed.PartNumber === undefined || listed.ETag === undefined) return undefined;
  const { PartNumber, ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME } = listed;
  const theirs: Checksum = { ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME };
  const md5 = md5OfEtag(ETag);
  const isSame =
    isSameChecksum(await checksumOf(options.checksum, bytes, signal), theirs) ??
    (md5 !== undefined && md5 === (await digestOf('md5', bytes, signal)));
  return isSame ? { PartNumber, ETag, ...theirs } : undefined;
}
