/** Amazon S3, and servers that speak as it does. */

import type { ExportTarget } from '../contract.ts';
import { PaceWatch } from '../pace-watch.ts';
import { checkBucket } from './check-bucket.ts';
import { dropSaved } from './drop-saved.ts';
import { uploadImage } from './multipart-upload.ts';
import { planParts } from './plan-parts.ts';
import { putImage } from './put-object.ts';
import type { S3TargetOptions } from './s3-options.ts';
import { openS3Session } from './s3-session.ts';
import { putSha256 } from './sha256-object.ts';
import { createNonce, type Transfer } from './transfer.ts';
import { UploadProgress } from './upload-progress.ts';

export function createS3Target(options: S3TargetOptions): ExportTarget {
  const { bucket, key, partSizeBytes, maxParts, clock, random = Math.random } = options;

  return {
    async check(signal) {
      const session = await openS3Session(options, signal);
      try {
        await checkBucket({ session, options, signal });
      } finally {
        session.close();
      }
    },

    async send(image, context) {
      const session = await openS3Session(options, context.signal);
      const progress = new UploadProgress((sentBytes) => context.progress(sentBytes), image.sizeBytes);
      const { limits, where } = session;
      const pace = new PaceWatch({ where, clock, limits: { ...limits, idleMs: limits.silentMs }, onMoved: () => progress.update() });
      try {
        const plan = planParts({ imageSizeBytes: image.sizeBytes, partSizeBytes, maxParts, leastPartBytes: limits.leastPartBytes });
        const signal = AbortSignal.any([context.signal, pace.signal]);
        const transfer: Transfer = { session, options, image, context: { ...context, signal }, pace, progress, nonce: createNonce(random) };
        const isWhole = plan.count === 1 && image.sizeBytes <= limits.largestBufferBytes && context.resume === undefined;
        const { etag, sha256, proof } = await (isWhole ? putImage(transfer) : uploadImage(transfer, plan));
        // Until it is there, an upload that has become an object stays noted: the next attempt finds the object, and sends only this.
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
      const session = await openS3Session(options, signal);
      try {
        await dropSaved({ savedId: id, session, options, signal, clock, random, limits: session.limits });
      } finally {
        session.close();
      }
    },
  };
}
