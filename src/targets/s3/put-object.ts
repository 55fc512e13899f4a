/** Images of one part: one request, which has it all. */

import { DiskliftError } from '../../common/errors.ts';
import { bytesInMemory, type PartBytes, readPart } from './part-bytes.ts';
import type { ExpectedObject } from './part-proof.ts';
import { judgePart } from './part-proof.ts';
import { conditionOf, explained, findArrived, mayHaveArrived, proveObject, requireAbsent } from './prove-object.ts';
import { createPayload, type Payload, sendPayload } from './send-payload.ts';
import { type Arrival, metadataOf, retriesOf, type Transfer, withRetries } from './transfer.ts';

/** @throws DiskliftError `ChecksumMismatch` when the server has other bytes than those sent */
export async function putImage(transfer: Transfer): Promise<Arrival> {
  const { options, image, context } = transfer;
  const { signal } = context;
  const buffer = await options.buffers.take(image.sizeBytes, signal);
  let isUsable = false;
  try {
    await readPart(image, buffer.bytes, 0, signal);
    isUsable = true;
    const bytes = bytesInMemory(buffer.bytes, () => {
      isUsable = false;
    });
    // The hash runs while the body is sent.
    bytes.md5(signal).catch(() => {});
    const arrival = (await findEarlier(transfer, bytes)) ?? (await sendImage(transfer, bytes));
    transfer.progress.arrive(image.sizeBytes);
    return arrival;
  } finally {
    buffer.giveBack(isUsable && !signal.aborted);
  }
}

/** An attempt before this one may have sent the image, and have failed to put its SHA-256 beside it. */
async function findEarlier(transfer: Transfer, bytes: PartBytes): Promise<Arrival | undefined> {
  const { sha256Object, ifNotExists } = transfer.options;
  const find = ifNotExists ? requireAbsent : sha256Object ? findArrived : undefined;
  const found = await find?.(transfer, () => expectedOf(transfer, bytes));
  return found === undefined ? undefined : { ...found, ...(await transfer.context.seal()) };
}

async function sendImage(transfer: Transfer, bytes: PartBytes): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { signal } = context;
  const payload = await createPayload(bytes, { isSigned: session.isPlain, checksum: options.checksum, signal });
  const earlier = { isUnclear: false };
  const { sha256, ...made } = await withRetries(() => put(transfer, { payload, earlier }), retriesOf(transfer));
  if (earlier.isUnclear || context.hasSentBefore === true) {
    const stored = await lateStored(transfer, bytes);
    if (stored !== undefined) return { ...stored, sha256 };
  }
  if ('found' in made) return { ...made.found, sha256 };
  const verdict = await judgePart(bytes, made.answer, { ours: payload.checksum, signal });
  if (verdict === undefined)
    throw new DiskliftError('ChecksumMismatch', `${session.where}: the checksum of the object is not that of the bytes sent`);
  const { tag, parts } = await expectedOf(transfer, bytes);
  return { ...(await proveObject(transfer, { tag, parts: parts.map((part) => ({ ...part, ...verdict })) }, made.answer)), sha256 };
}

/**
 * A server may carry out a request after the connection was lost, and replace what a later request has stored. Wait for
 * such a late one, then judge the object that is there, instead of the answer.
 * @returns undefined where nothing can be seen, or another export has replaced the object
 * @throws DiskliftError `ChecksumMismatch` when a late request of this attempt has stored other bytes
 */
async function lateStored(transfer: Transfer, bytes: PartBytes): ReturnType<typeof findArrived> {
  const { session, options, context } = transfer;
  await options.clock.delay(session.limits.lateMs, context.signal);
  return findArrived(transfer, () => expectedOf(transfer, bytes));
}

interface Put {
  payload: Payload;
  /**
   * Whether an earlier try may have made the object. Then a refusal of a later try is checked against the stored
   * object.
   */
  earlier: { isUnclear: boolean };
}

async function put(transfer: Transfer, { payload, earlier }: Put) {
  const { session, options, context } = transfer;
  const { bucket: Bucket, key: Key } = options;
  const { signal } = context;
  const about = { ...conditionOf(transfer), Bucket, Key, Metadata: metadataOf(transfer), ContentType: 'application/octet-stream' };
  // Before every try, since each one may be the one that makes the object.
  const { sha256 } = await context.seal();
  try {
    const answer = await sendPayload(transfer, payload, {
      signal,
      command: (body) => new session.sdk.PutObjectCommand({ ...body, ...about }),
    });
    return { sha256, answer };
  } catch (error) {
    earlier.isUnclear ||= mayHaveArrived(error);
    if (signal.aborted || !earlier.isUnclear) throw explained(transfer, error);
    const found = await findArrived(transfer, () => expectedOf(transfer, payload.bytes));
    if (found === undefined) throw explained(transfer, error);
    return { sha256, found };
  }
}

async function expectedOf({ image, context: { signal } }: Transfer, bytes: PartBytes): Promise<ExpectedObject> {
  const md5 = await bytes.md5(signal);
  return { tag: md5, parts: [{ number: 1, offset: 0, sizeBytes: image.sizeBytes, md5, hasOtherTag: false }] };
}
