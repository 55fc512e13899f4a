/** The parts of an image: read in image order, several on their way at once, each sent again by itself. */

import type { CompletedPart, Part as ListedPart } from '@aws-sdk/client-s3';
import { throwIfAborted } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { createLimiter } from '../../common/limiter.ts';
import { bytesInMemory, bytesOfImage, type PartBytes, readPart } from './part-bytes.ts';
import { type Checksum, checksumOf, type ExpectedPart, judgePart } from './part-proof.ts';
import { type Part, type PartPlan, partsOf } from './plan-parts.ts';
import { createPayload, sendPayload } from './send-payload.ts';
import { retriesOf, type Transfer, withRetries } from './transfer.ts';

export interface Upload {
  id: string;
  plan: PartPlan;
  /** The parts that the server holds from an earlier attempt, by number. */
  held: ReadonlyMap<number, ListedPart>;
}

interface SentParts {
  /** All, in order. */
  parts: UploadedPart[];
  /** Whether a request for one of them has failed. The server may still carry it out. */
  hasFailedTry: boolean;
}

/** Memory of a part that is read while it is sent, in all buffers together. */
const STREAM_BYTES = 16 * MIB;

/** @throws DiskliftError the failure of the first part that fails; the other parts are then cancelled */
export function uploadParts(transfer: Transfer, upload: Upload): Promise<SentParts> {
  const { maxBufferBytes } = transfer.session.limits;
  transfer.progress.restart();
  return upload.plan.partSizeBytes > maxBufferBytes ? streamParts(transfer, upload) : bufferParts(transfer, upload);
}

async function bufferParts(transfer: Transfer, { id, plan, held }: Upload): Promise<SentParts> {
  const { options, image, context, progress } = transfer;
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const inPart: Transfer = { ...transfer, context: { ...context, signal } };
  const places = createLimiter(options.concurrency);
  const parts: UploadedPart[] = [];
  const sending: Promise<void>[] = [];
  let arrivedCount = 0;
  const arrivedParts = () => arrivedCount;
  let hasFailedTry = false;
  let failure: { error: unknown } | undefined;

  function arrived(part: UploadedPart): void {
    parts[part.number - 1] = part;
    arrivedCount += 1;
    progress.arrive(part.sizeBytes);
  }

  /** Resolves when the bytes of the part have been read and it is on its way. */
  async function begin(part: Part): Promise<void> {
    const leave = await places.acquire(1, { signal });
    const buffer = await options.buffers.take(plan.partSizeBytes, signal);
    const filled = buffer.bytes.subarray(0, part.sizeBytes);
    let isUsable = false;
    let sent = Promise.resolve();
    try {
      await readPart(image, filled, part.offset, signal);
      isUsable = true;
      const bytes = bytesInMemory(filled, () => {
        isUsable = false;
        hasFailedTry = true;
      });
      // The hash runs while the part is sent; the part's end waits for the hash.
      bytes.md5(signal).catch(() => {});
      sent = uploadPart(inPart, { uploadId: id, part, bytes, listed: held.get(part.number), arrivedParts }).then(arrived);
    } catch (error) {
      sent = Promise.reject(error);
    }
    sending.push(
      sent
        .catch((error: unknown) => {
          failure ??= { error };
          stop.abort(new DiskliftError('Cancelled', 'another part has failed'));
        })
        .finally(() => {
          buffer.giveBack(isUsable && !signal.aborted);
          leave();
        }),
    );
  }

  try {
    for (const part of partsOf(plan)) {
      throwIfAborted(signal);
      await begin(part);
    }
  } catch (error) {
    failure ??= { error };
  }
  await Promise.all(sending);
  if (failure !== undefined) throw failure.error;
  return { parts, hasFailedTry };
}

/** Sends one part after the other, and reads each while it is sent. Parts of huge images are too large for memory. */
async function streamParts(transfer: Transfer, { id, plan, held }: Upload): Promise<SentParts> {
  const { options, image, context, progress } = transfer;
  const parts: UploadedPart[] = [];
  let hasFailedTry = false;
  for (const part of partsOf(plan)) {
    // Reserved again for each part, so that larger reservations get a turn.
    const release = await options.buffers.reserve(STREAM_BYTES, context.signal);
    try {
      const bytes = bytesOfImage(image, part, () => {
        hasFailedTry = true;
      });
      parts.push(await uploadPart(transfer, { uploadId: id, part, bytes, listed: held.get(part.number) }));
    } finally {
      release();
    }
    progress.arrive(part.sizeBytes);
  }
  return { parts, hasFailedTry };
}

interface PartToSend {
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
async function uploadPart(transfer: Transfer, toSend: PartToSend): Promise<UploadedPart> {
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
 * @returns the part that the server already holds, if it has exactly these bytes. The fingerprint is not enough: it
 * does not show writes to a block device between two attempts, and two states of a disk must not end in one image. The
 * bytes are read in any case, because the digest covers the whole image. Where the server's tags prove nothing, the
 * part is sent again.
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
