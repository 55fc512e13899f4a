/** One part of an upload. */

import type { CompletedPart, Part as ListedPart } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { type Checksum, checksumOf } from './checksum.ts';
import type { ExpectedPart } from './expected-object.ts';
import { judgePart } from './judge-part.ts';
import type { PartBytes } from './part-bytes.ts';
import { createPayload } from './payload.ts';
import type { Part } from './plan-parts.ts';
import { sendPayload } from './send-payload.ts';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

export interface PartToSend {
  uploadId: string;
  part: Part;
  bytes: PartBytes;
  /** The server's list entry for the part of an earlier attempt. */
  listed: ListedPart | undefined;
  /** Counts the parts of this attempt that have arrived; left out where no other part is on its way. */
  arrivedParts?: () => number;
}

/** A part that the server has taken. */
export interface UploadedPart extends ExpectedPart {
  completed: CompletedPart;
}

/** Sends a part, unless the server has it already. @throws DiskliftError `ChecksumMismatch` among others */
export async function uploadPart(transfer: Transfer, toSend: PartToSend): Promise<UploadedPart> {
  return (await heldPart(transfer, toSend)) ?? (await sendPart(transfer, toSend));
}

/** Sends a part, and retries this part alone after a failure. */
async function sendPart(transfer: Transfer, { uploadId, part, bytes, arrivedParts }: PartToSend): Promise<UploadedPart> {
  const { session, options, context } = transfer;
  const about = { Bucket: options.bucket, Key: options.key, UploadId: uploadId, PartNumber: part.number };
  const { signal } = context;
  const payload = await createPayload(bytes, { isSigned: session.isPlain, checksum: options.checksum, signal });
  const answer = await withRetries(
    () => sendPayload(transfer, payload, { signal, command: (body) => new session.sdk.UploadPartCommand({ ...body, ...about }) }),
    { ...retriesOf(transfer), ...(arrivedParts && { successes: arrivedParts }) },
  );
  if (answer.ETag === undefined)
    throw new DiskliftError('DestinationRejected', `${session.where}: answered without the tag of part ${part.number}`);
  const verdict = await judgePart(bytes, answer, { ours: payload.checksum, signal });
  if (verdict === undefined)
    throw new DiskliftError('ChecksumMismatch', `${session.where}: the checksum of part ${part.number} is not that of the bytes sent`);
  return { ...part, ...verdict, completed: { PartNumber: part.number, ETag: answer.ETag, ...payload.checksum } };
}

/**
 * What the server holds already, when it is these very bytes. A part is there whole or not at all, and equal fingerprints promise
 * equal bytes; but of a block device nothing tells that it was written to between two attempts, and two of its states must not end in
 * one image. The bytes have to be read in any case: what is sent is hashed from its beginning. A server whose tags say nothing gets
 * the part again.
 */
async function heldPart(
  { options, context: { signal } }: Transfer,
  { part, bytes, listed }: PartToSend,
): Promise<UploadedPart | undefined> {
  if (listed?.Size !== bytes.sizeBytes || listed.PartNumber === undefined || listed.ETag === undefined) return undefined;
  const { PartNumber, ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME } = listed;
  const theirs: Checksum = { ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME };
  const verdict = await judgePart(bytes, { ETag, ...theirs }, { ours: await checksumOf(options.checksum, bytes, signal), signal });
  return verdict?.proof === undefined ? undefined : { ...part, ...verdict, completed: { PartNumber, ETag, ...theirs } };
}
