/** The parts that a server holds of an upload. */

import type { Part as ListedPart, ListPartsCommandOutput } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { MAX_PARTS_PAGE_BYTES } from './limit-answers.ts';
import type { S3TargetOptions } from './s3-options.ts';
import type { S3Session } from './s3-session.ts';
import { type Retries, withRetries } from './with-retries.ts';

/** Servers list 1000 parts a page, and take 10,000 parts. */
const MAX_PAGES = 100;

export interface PartListing extends Retries {
  session: S3Session;
  options: S3TargetOptions;
  uploadId: string;
}

/** @returns the parts by number @throws DiskliftError `DestinationRejected`, with the cause NoSuchUpload, when there is no such upload */
export async function listParts({ session, options, uploadId, ...retries }: PartListing): Promise<Map<number, ListedPart>> {
  const about = { Bucket: options.bucket, Key: options.key, UploadId: uploadId };
  const { signal } = retries;
  const parts = new Map<number, ListedPart>();
  const startMs = retries.clock.monotonicMs();
  let pages = 0;
  let marker: string | undefined;
  do {
    const page: ListPartsCommandOutput = await withRetries(
      () =>
        session.request(
          ({ client, http }) =>
            client.send(
              new session.sdk.ListPartsCommand({ ...about, ...(marker === undefined ? {} : { PartNumberMarker: marker }) }),
              http,
            ),
          { signal, maxAnswerBytes: MAX_PARTS_PAGE_BYTES },
        ),
      retries,
    );
    for (const part of page.Parts ?? []) if (part.PartNumber !== undefined) parts.set(part.PartNumber, part);
    // A server that says there is more, and not where, or says the same again, would be asked for ever.
    const next = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    marker = next === marker ? undefined : next;
    pages += 1;
    if (marker !== undefined && (pages >= MAX_PAGES || retries.clock.monotonicMs() - startMs > session.limits.answerMs))
      throw new DiskliftError('DestinationUnreachable', `${session.where}: the list of the upload's parts does not end`);
  } while (marker !== undefined);
  return parts;
}
