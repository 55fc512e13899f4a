/** Sends to Amazon S3 and compatible servers. */

import path from 'node:path';
import { DiskliftError } from '../../common/errors.ts';
import { MAX_UPLOADS_PAGE_BYTES } from '../../s3/request-limits.ts';
import { s3ErrorName, s3ErrorStatus } from '../../s3/s3-error.ts';
import { openS3Session, type S3Session } from '../../s3/s3-session.ts';
import type { ExportTarget } from '../contract.ts';
import { PaceWatch } from '../pace-watch.ts';
import { abortSaved } from './held-uploads.ts';
import { uploadImage } from './multipart-upload.ts';
import { bytesInMemory } from './part-bytes.ts';
import { checksumOf } from './part-proof.ts';
import { planParts } from './plan-parts.ts';
import { putImage } from './put-object.ts';
import { S3_LIMITS, type S3Limits, type S3TargetOptions } from './s3-options.ts';
import { createNonce, retriesOf, type Transfer, UploadProgress, withRetries } from './transfer.ts';

export function createS3Target(options: S3TargetOptions): ExportTarget {
  const { bucket, key, partSizeBytes, maxParts, clock, random = Math.random } = options;

  return {
    async check(signal) {
      const session = await openS3Session({ ...options, limits: { ...S3_LIMITS, ...options.limits } }, signal);
      try {
        await checkBucket({ session, options, signal });
      } finally {
        session.close();
      }
    },

    async send(image, context) {
      const session = await openS3Session({ ...options, limits: { ...S3_LIMITS, ...options.limits } }, context.signal);
      const progress = new UploadProgress((sentBytes) => context.progress(sentBytes), image.sizeBytes);
      const { limits, where } = session;
      const pace = new PaceWatch({ where, clock, limits: { ...limits, idleMs: limits.silentMs }, onMoved: () => progress.update() });
      try {
        const plan = planParts({ imageSizeBytes: image.sizeBytes, partSizeBytes, maxParts, minPartBytes: limits.minPartBytes });
        const signal = AbortSignal.any([context.signal, pace.signal]);
        const transfer: Transfer = { session, options, image, context: { ...context, signal }, pace, progress, nonce: createNonce(random) };
        const isWhole = plan.count === 1 && image.sizeBytes <= limits.maxBufferBytes && context.resume === undefined;
        const { etag, sha256, proof } = await (isWhole ? putImage(transfer) : uploadImage(transfer, plan));
        // Before the upload's state is removed. If this fails, the next attempt finds the object, and sends only its
        // SHA-256.
        if (options.sha256Object && sha256 !== undefined) await putSha256(transfer, sha256);
        if (!isWhole) await context.saveResume(undefined);
        return {
          location: `s3://${bucket}/${key}`,
          sizeBytes: image.sizeBytes,
          ...(etag === undefined ? {} : { etag }),
          ...(sha256 === undefined ? {} : { sha256 }),
          proof,
        };
      } finally {
        pace.stop();
        session.close();
      }
    },

    async abandon({ id }, signal) {
      const session = await openS3Session({ ...options, limits: { ...S3_LIMITS, ...options.limits } }, signal);
      try {
        await abortSaved({ savedId: id, session, options, signal, clock, random, limits: session.limits });
      } finally {
        session.close();
      }
    },
  };
}

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
  session: S3Session<S3Limits>;
  options: S3TargetOptions;
  signal: AbortSignal;
}

/**
 * Lists the open uploads of the key: unlike a HeadBucket, its refusals have names. Credentials that may only write are
 * refused the list, and some servers do not support it; neither says anything about the upload.
 * @throws DiskliftError for a refusal that the upload would meet too, and when the server does not answer
 */
async function checkBucket({ session, options, signal }: BucketCheck): Promise<void> {
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

/** @param sha256 in hex @throws DiskliftError */
async function putSha256(transfer: Transfer, sha256: string): Promise<void> {
  const { session, options, context } = transfer;
  const { signal } = context;
  const body = Buffer.from(`${sha256}  ${path.posix.basename(options.key)}\n`);
  const input = {
    Bucket: options.bucket,
    Key: `${options.key}.sha256`,
    Body: body,
    ContentType: 'text/plain',
    // A bucket with Object Lock refuses an object without a checksum.
    ...(await checksumOf(options.checksum, bytesInMemory(body), signal)),
  };
  await withRetries(
    () => session.request(({ client, http }) => client.send(new session.sdk.PutObjectCommand(input), http), { signal }),
    retriesOf(transfer),
  );
}
