/** The end of a multipart upload: the request that makes the object, and what became of it when its answer does not tell. */

import { DiskliftError } from '../../common/errors.ts';
import { abortUpload } from './abort-upload.ts';
import { compositeEtag } from './etag.ts';
import { conditionOf, explained, requireAbsent } from './if-not-exists.ts';
import { assertConsistent, findArrived, isExistsRefusal, mayHaveArrived, proveObject } from './prove-object.ts';
import { isUploadGone } from './s3-error.ts';
import type { UploadedPart } from './send-part.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

interface UploadedParts {
  id: string;
  /** In order. */
  parts: UploadedPart[];
}

/** @throws DiskliftError `ChecksumMismatch` when the server has other bytes than those sent */
export async function completeUpload(transfer: Transfer, { id, parts }: UploadedParts): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { signal } = context;
  assertConsistent(parts, session.where);
  const list = parts.map(({ completed }) => completed);
  const input = { ...conditionOf(transfer), Bucket: options.bucket, Key: options.key, UploadId: id, MultipartUpload: { Parts: list } };
  const expected = { tag: compositeEtag(parts.map(({ md5 }) => md5)), parts };
  // Hours may have passed since the key was looked at.
  const present = await requireAbsent(transfer, async () => expected);
  const drop = () => abortUpload({ session, options, uploadId: id, ...retriesOf(transfer) });
  if (present !== undefined) {
    await drop();
    return { ...present, ...(await context.seal()) };
  }
  let isUnclear = false;
  const complete = async () => {
    // Before every try, since each one may be the one that makes the object.
    const { sha256 } = await context.seal();
    try {
      const answer = await session.request(({ client, http }) => client.send(new session.sdk.CompleteMultipartUploadCommand(input), http), {
        signal,
        silentMs: session.limits.answerMs,
      });
      return { sha256, answer };
    } catch (error) {
      // An upload that is not there may be one that an earlier try has completed.
      isUnclear ||= mayHaveArrived(error) || isUploadGone(error);
      if (signal.aborted || !isUnclear) throw explained(transfer, error);
      const found = await findArrived(transfer, async () => expected);
      if (found === undefined) throw isUploadGone(error) ? goneError(error as DiskliftError) : explained(transfer, error);
      // The same image came to the key by another upload, and a refusal leaves this one open.
      if (isExistsRefusal(error)) await drop();
      return { sha256, found };
    }
  };
  const { sha256, ...made } = await withRetries(complete, retriesOf(transfer));
  return { sha256, ...('found' in made ? made.found : await proveObject(transfer, expected, made.answer)) };
}

/** Retryable, because the next attempt finds the upload missing and begins a new one. Elsewhere some of these error names are final. */
function goneError(error: DiskliftError): DiskliftError {
  return new DiskliftError('DestinationRejected', `${error.message}: neither the upload nor its object is there`, error, {
    retryable: true,
  });
}
