/** Uploads that nobody goes on with. */

import { DiskliftError } from '../../common/errors.ts';
import { listParts } from './list-parts.ts';
import { cannotLook, isUploadGone } from './s3-error.ts';
import type { S3TargetOptions } from './s3-options.ts';
import type { S3Session } from './s3-session.ts';
import { type Retries, withRetries } from './with-retries.ts';

export interface AbortedUpload extends Retries {
  session: S3Session;
  options: S3TargetOptions;
  uploadId: string;
}

/** Most of what is late is so by a moment only: who looks soon need not wait for the whole time twice. */
const LOOKS = 4;

/** Aborts until it is given up. */
const TRIES = 3 * LOOKS;

/**
 * Parts that were on their way may arrive behind the abort (AWS: "it might be necessary to abort a given multipart upload multiple
 * times"), and open the upload again at some servers, so the server is asked for a while what it has left.
 * @returns 'unknown' when the server has no upload of that id
 * @throws DiskliftError when the upload may still be there
 */
export async function abortUpload(aborted: AbortedUpload): Promise<'aborted' | 'unknown'> {
  const { session, options, uploadId, ...retries } = aborted;
  const about = { Bucket: options.bucket, Key: options.key, UploadId: uploadId };
  const { signal } = retries;
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    const abort = () =>
      session.request(({ client, http }) => client.send(new session.sdk.AbortMultipartUploadCommand(about), http), { signal });
    if (await isGone(() => withRetries(abort, retries))) return attempt === 1 ? 'unknown' : 'aborted';
    if (await staysGone(aborted)) return 'aborted';
  }
  throw new DiskliftError('DestinationRejected', `${session.where}: the upload is still there after it was aborted`, undefined, {
    retryable: true,
  });
}

async function staysGone(aborted: AbortedUpload): Promise<boolean> {
  const { clock, limits, signal } = aborted;
  for (let look = 0; look < LOOKS; look += 1) {
    await clock.delay(limits.lateMs / LOOKS, signal);
    if (!(await isGone(() => leftParts(aborted)))) return false;
  }
  return true;
}

async function isGone(ask: () => Promise<unknown>): Promise<boolean> {
  try {
    return (await ask()) === 'nothing left';
  } catch (error) {
    if (isUploadGone(error)) return true;
    throw error;
  }
}

async function leftParts(aborted: AbortedUpload): Promise<'nothing left' | 'parts'> {
  try {
    return (await listParts(aborted)).size === 0 ? 'nothing left' : 'parts';
  } catch (error) {
    // To look is a right of its own; the abort itself was heard.
    if (cannotLook(error)) return 'nothing left';
    throw error;
  }
}
