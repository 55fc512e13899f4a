/** The parts of an image: read in image order, several on their way at once, each sent again by itself. */

import type { CompletedPart, Part as ListedPart } from '@aws-sdk/client-s3';
import { throwIfAborted } from '../../common/abortable.ts';
import { DiskliftError } from '../../common/errors.ts';
import { type Checksum, checksumOf, isSameChecksum } from './checksum.ts';
import { md5OfEtag } from './etag.ts';
import { digestOf } from './hash-pieces.ts';
import { createPartBuffers } from './part-buffers.ts';
import { createPayload } from './payload.ts';
import { type Part, type PartPlan, partsOf } from './plan-parts.ts';
import { readPart } from './read-part.ts';
import { sendPayload } from './send-payload.ts';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

export interface Upload {
  id: string;
  plan: PartPlan;
  /** What the server holds from an earlier attempt, by number. */
  held: ReadonlyMap<number, ListedPart>;
}

/** @returns all parts, in order @throws DiskliftError that of the first part that failed; the others are left then */
export async function uploadParts(transfer: Transfer, { id, plan, held }: Upload): Promise<CompletedPart[]> {
  const { options, image, context } = transfer;
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const inPart: Transfer = { ...transfer, context: { ...context, signal } };
  const buffers = createPartBuffers({ budget: options.budget, sizeBytes: plan.partSizeBytes, most: options.concurrency, signal });
  const parts: CompletedPart[] = [];
  const sending: Promise<void>[] = [];
  let sentBytes = 0;
  let failure: { error: unknown } | undefined;

  function arrived(part: Part, completed: CompletedPart): void {
    parts[part.number - 1] = completed;
    sentBytes += part.sizeBytes;
    context.progress(sentBytes);
  }

  /** Resolves when the bytes of the part have been read and it is on its way. */
  async function begin(part: Part): Promise<void> {
    const buffer = await buffers.take();
    const bytes = buffer.bytes.subarray(0, part.sizeBytes);
    let isUsable = false;
    let sent = Promise.resolve();
    try {
      await readPart(image, bytes, part.offset, signal);
      isUsable = true;
      const listed = held.get(part.number);
      if (listed !== undefined && (await isPartOf(listed, bytes, inPart))) arrived(part, completedOf(listed, part));
      else sent = sendPart(inPart, { id, part, bytes }).then((completed) => arrived(part, completed));
    } catch (error) {
      sent = Promise.reject(error);
    }
    sending.push(
      sent
        .catch((error: unknown) => {
          failure ??= { error };
          stop.abort(new DiskliftError('Cancelled', 'another part has failed'));
        })
        .finally(() => buffers.giveBack(buffer, isUsable && !signal.aborted)),
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
  buffers.dispose();
  if (failure !== undefined) throw failure.error;
  return parts;
}

interface PartToSend {
  id: string;
  part: Part;
  bytes: Uint8Array;
}

async function sendPart(transfer: Transfer, { id, part, bytes }: PartToSend): Promise<CompletedPart> {
  const { session, options, context } = transfer;
  const about = { Bucket: options.bucket, Key: options.key, UploadId: id, PartNumber: part.number };
  const { signal } = context;
  const payload = await createPayload(bytes, { isSigned: session.isPlain, checksum: options.checksum, signal });
  const answer = await withRetries(
    () => sendPayload(session, payload, { signal, command: (body) => new session.sdk.UploadPartCommand({ ...body, ...about }) }),
    retriesOf(transfer),
  );
  if (answer.ETag === undefined)
    throw new DiskliftError('DestinationRejected', `${session.where}: answered without the tag of part ${part.number}`);
  return { PartNumber: part.number, ETag: answer.ETag, ...payload.checksum };
}

/**
 * Whether the server holds these very bytes. A part is there whole or not at all, and equal fingerprints promise equal bytes; but of a
 * block device nothing tells that it was written to between two attempts, and two of its states must not end in one image. The
 * bytes have been read already: what is sent must be hashed from its beginning. A server whose tags say nothing gets the part again.
 */
async function isPartOf(listed: ListedPart, bytes: Uint8Array, { options, context: { signal } }: Transfer): Promise<boolean> {
  if (listed.Size !== bytes.length || listed.ETag === undefined) return false;
  const isSame = isSameChecksum(await checksumOf(options.checksum, bytes, signal), listed);
  const md5 = md5OfEtag(listed.ETag);
  return isSame ?? (md5 !== undefined && md5 === (await digestOf('md5', bytes, signal)));
}

function completedOf({ ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME }: ListedPart, { number }: Part): CompletedPart {
  const checksum: Checksum = { ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME };
  return { PartNumber: number, ETag, ...checksum };
}
