/** The end of a multipart upload: the request that makes the object, and what became of it when its answer does not tell. */

import type { CompletedPart } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { compositeEtag, proofOf } from './etag.ts';
import { findArrived, mayHaveArrived } from './found-object.ts';
import { isUploadGone } from './s3-error.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

interface UploadedParts {
  id: string;
  /** In order. */
  parts: CompletedPart[];
}

/** @throws DiskliftError `ChecksumMismatch` when the object's tag is not that of the parts */
export function completeUpload(transfer: Transfer, { id, parts }: UploadedParts): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { signal } = context;
  const input = { Bucket: options.bucket, Key: options.key, UploadId: id, MultipartUpload: { Parts: parts } };
  const expected = compositeEtag(parts.map(({ ETag }) => ETag));
  let isUnclear = false;
  return withRetries(async () => {
    // Before every try, since each one may be the one that makes the object.
    const { sha256 } = await context.seal();
    try {
      const answer = await session.request(({ client, http }) => client.send(new session.sdk.CompleteMultipartUploadCommand(input), http), {
        signal,
        silentMs: session.limits.answerMs,
      });
      return { etag: answer.ETag, sha256, proof: proofOf(expected, answer, session.where) };
    } catch (error) {
      // An upload that is not there may be one that an earlier try has completed.
      isUnclear ||= mayHaveArrived(error) || isUploadGone(error);
      if (signal.aborted || !isUnclear) throw error;
      const found = await findArrived(transfer, async () => expected);
      if (found === undefined) throw isUploadGone(error) ? goneError(error as DiskliftError) : error;
      return { ...found, sha256 };
    }
  }, retriesOf(transfer));
}

/** Another attempt finds the upload missing, and begins a new one. Some names of this error are final elsewhere. */
function goneError(error: DiskliftError): DiskliftError {
  return new DiskliftError('DestinationRejected', `${error.message}: neither the upload nor its object is there`, error, {
    retryable: true,
  });
}
