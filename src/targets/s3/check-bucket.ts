/** Asks an S3 server whether bucket and credentials are right, by a request that changes nothing. */

import { DiskliftError } from '../../common/errors.ts';
import { MAX_UPLOADS_PAGE_BYTES } from './limit-answers.ts';
import { s3ErrorName, s3ErrorStatus } from './s3-error.ts';
import type { S3TargetOptions } from './s3-options.ts';
import type { S3Session } from './s3-session.ts';

/** Limit of an answer that costs a server nothing. */
const ANSWER_MS = 10_000;

/** Every later request would be refused for the same reason. */
const SURE_NAMES: ReadonlySet<string> = new Set([
  'NoSuchBucket',
  'InvalidBucketName',
  'PermanentRedirect',
  'AuthorizationHeaderMalformed',
  'SecondLevelDomainForbidden',
  'InvalidAccessKeyId',
  'XAdminUserNotFound',
  'SignatureDoesNotMatch',
  'InvalidToken',
  'ExpiredToken',
  'TokenRefreshRequired',
  'RequestTimeTooSkewed',
]);

interface BucketCheck {
  session: S3Session;
  options: S3TargetOptions;
  signal: AbortSignal;
}

/**
 * Lists the open uploads of the key: unlike a HeadBucket, its refusals have names. Credentials that may only write are refused the list, and
 * some servers do not support it; neither says anything about the upload.
 * @throws DiskliftError for a refusal that the upload would meet too, and when the server does not answer
 */
export async function checkBucket({ session, options, signal }: BucketCheck): Promise<void> {
  const input = { Bucket: options.bucket, Prefix: options.key, MaxUploads: 1 };
  try {
    await session.request(({ client, http }) => client.send(new session.sdk.ListMultipartUploadsCommand(input), http), {
      signal,
      silentMs: Math.min(ANSWER_MS, session.limits.silentMs),
      maxAnswerBytes: MAX_UPLOADS_PAGE_BYTES,
    });
  } catch (error) {
    if (!(error instanceof DiskliftError) || isSure(error)) throw error;
  }
}

/** The network, the policy, a proxy and missing credentials refuse without an answer of S3. */
function isSure(error: DiskliftError): boolean {
  const status = s3ErrorStatus(error);
  return status === undefined || status === 407 || SURE_NAMES.has(s3ErrorName(error) ?? '');
}
