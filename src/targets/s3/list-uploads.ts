/** The uploads that a server holds open for a key. */

import type { MultipartUpload } from '@aws-sdk/client-s3';
import { MAX_UPLOADS_PAGE_BYTES } from './limit-answers.ts';
import type { S3TargetOptions } from './s3-options.ts';
import type { S3Session } from './s3-session.ts';
import { type Retries, withRetries } from './with-retries.ts';

export interface UploadListing extends Retries {
  session: S3Session;
  options: S3TargetOptions;
}

export interface ListedUploads {
  uploads: MultipartUpload[];
  /** What has to be added to our clock for the server's, or a little less: `Date` has whole seconds, and came a while ago. */
  skewMs: number;
}

/** A key's own come first in what its prefix gives, so one page is enough. @throws DiskliftError */
export async function listUploads({ session, options, ...retries }: UploadListing): Promise<ListedUploads> {
  const { bucket: Bucket, key } = options;
  const { signal, clock } = retries;
  let skewMs = 0;
  const { Uploads = [] } = await withRetries(
    () =>
      session.request(
        ({ client, http }) => {
          const command = new session.sdk.ListMultipartUploadsCommand({ Bucket, Prefix: key });
          command.middlewareStack.add(
            (next) => async (args) => {
              const result = await next(args);
              const { date } = (result.response as { headers: Record<string, string | undefined> }).headers;
              const serverMs = Date.parse(date ?? '');
              skewMs = Number.isNaN(serverMs) ? 0 : serverMs - clock.nowMs();
              return result;
            },
            { step: 'deserialize', name: 'serverClock' },
          );
          return client.send(command, http);
        },
        { signal, maxAnswerBytes: MAX_UPLOADS_PAGE_BYTES },
      ),
    retries,
  );
  return { uploads: Uploads.filter(({ Key }) => Key === key), skewMs };
}
