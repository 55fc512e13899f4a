/** Uploads that were made by requests whose answers got lost: nobody has their names, and they would stay for ever. */

import type { MultipartUpload } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { abortUpload } from './abort-upload.ts';
import { listParts } from './list-parts.ts';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

export interface NamedUpload {
  /** Of the upload that came of the last request. */
  id: string;
  /** How long ago the first request was made. */
  sinceMs: number;
}

/** Servers tell when an upload was made in whole seconds. */
const CLOCK_STEP_MS = 1000;

/**
 * Aborts what was made for the same key in the time of our own requests, and holds nothing. Times are compared as the server has
 * them. It is no failure when this fails: the image can be sent all the same.
 * @throws DiskliftError `Cancelled`
 */
export async function dropNameless(transfer: Transfer, { id, sinceMs }: NamedUpload): Promise<void> {
  const { session, options, context } = transfer;
  const common = { session, options, ...retriesOf(transfer) };
  try {
    const uploads = await listUploads(transfer);
    const ownMs = uploads.find(({ UploadId }) => UploadId === id)?.Initiated?.getTime();
    if (ownMs === undefined) return;
    for (const { UploadId: uploadId, Initiated } of uploads) {
      const beforeMs = ownMs - (Initiated?.getTime() ?? Number.NaN);
      const isOfOurs = beforeMs >= 0 && beforeMs <= sinceMs + CLOCK_STEP_MS;
      if (uploadId === undefined || uploadId === id || !isOfOurs) continue;
      if ((await listParts({ ...common, uploadId })).size === 0) await abortUpload({ ...common, uploadId });
    }
  } catch (error) {
    if (context.signal.aborted || !(error instanceof DiskliftError)) throw error;
  }
}

/** Those for the same key; a key's own come first in what its prefix gives, so one page is enough. */
async function listUploads(transfer: Transfer): Promise<MultipartUpload[]> {
  const { session, options, context } = transfer;
  const { bucket: Bucket, key } = options;
  const list = () =>
    session.request(({ client, http }) => client.send(new session.sdk.ListMultipartUploadsCommand({ Bucket, Prefix: key }), http), {
      signal: context.signal,
    });
  const { Uploads = [] } = await withRetries(list, retriesOf(transfer));
  return Uploads.filter(({ Key }) => Key === key);
}
