/** Images of one part: one request, which has it all. */

import { proofOf } from './etag.ts';
import { findArrived, mayHaveArrived } from './found-object.ts';
import { digestOf } from './hash-pieces.ts';
import { bytesInMemory } from './part-bytes.ts';
import { createPayload, type Payload } from './payload.ts';
import { readPart } from './read-part.ts';
import { sendPayload } from './send-payload.ts';
import { type Arrival, metadataOf, retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/** @throws DiskliftError */
export async function putImage(transfer: Transfer): Promise<Arrival> {
  const { options, image, context, session } = transfer;
  const { signal } = context;
  const buffer = await options.buffers.take(image.sizeBytes, signal);
  let isUsable = false;
  try {
    await readPart(image, buffer.bytes, 0, signal);
    isUsable = true;
    const bytes = bytesInMemory(buffer.bytes, () => {
      isUsable = false;
    });
    const md5 = await digestOf('md5', bytes, signal);
    let arrival = await findEarlier(transfer, md5);
    if (arrival === undefined) {
      const payload = await createPayload(bytes, { isSigned: session.isPlain, checksum: options.checksum, signal });
      const earlier = { isUnclear: false };
      arrival = await withRetries(() => put(transfer, { payload, md5, earlier }), retriesOf(transfer));
    }
    context.progress(image.sizeBytes);
    return arrival;
  } finally {
    buffer.giveBack(isUsable && !signal.aborted);
  }
}

/** An attempt before this one may have sent the image, and have failed to put its SHA-256 beside it. */
async function findEarlier(transfer: Transfer, md5: string): Promise<Arrival | undefined> {
  if (!transfer.options.sha256Object) return undefined;
  const found = await findArrived(transfer, async () => md5);
  return found === undefined ? undefined : { ...found, ...(await transfer.context.seal()) };
}

interface Put {
  payload: Payload;
  md5: string;
  /** Whether one of the tries may have made the object: then each refusal of a later one is a reason to look. */
  earlier: { isUnclear: boolean };
}

async function put(transfer: Transfer, { payload, md5, earlier }: Put): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { bucket: Bucket, key: Key } = options;
  const { signal } = context;
  const about = { Bucket, Key, Metadata: metadataOf(transfer), ContentType: 'application/octet-stream' };
  // Before every try, since each one may be the one that makes the object.
  const { sha256 } = await context.seal();
  try {
    const answer = await sendPayload(session, payload, {
      signal,
      command: (body) => new session.sdk.PutObjectCommand({ ...body, ...about }),
    });
    return { etag: answer.ETag, sha256, proof: proofOf(md5, answer, session.where) };
  } catch (error) {
    earlier.isUnclear ||= mayHaveArrived(error);
    if (signal.aborted || !earlier.isUnclear) throw error;
    const found = await findArrived(transfer, async () => md5);
    if (found === undefined) throw error;
    return { ...found, sha256 };
  }
}
