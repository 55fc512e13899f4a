/** Small objects beside the images in a bucket. */

import type { Readable } from 'node:stream';
import { formatBytes } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { readBackLimitMs } from '../../network/answer-limits.ts';
import { s3ErrorName, s3ErrorStatus } from '../../s3/s3-error.ts';
import { openS3Session, type S3Session } from '../../s3/s3-session.ts';
import { type DestinationFiles, MAX_FILE_BYTES } from '../contract.ts';
import { sendFile } from '../small-file.ts';
import { S3_LIMITS, type S3Limits, type S3TargetOptions } from './s3-options.ts';
import { createS3Target } from './s3-target.ts';
import { withRetries } from './transfer.ts';

/** @param options of the target of the images; their key is not used */
export function createS3Files(options: S3TargetOptions): DestinationFiles {
  const { bucket, clock, random } = options;
  const limits: S3Limits = { ...S3_LIMITS, ...options.limits };

  /** @returns undefined where the object does not exist */
  async function ask<T>(key: string, signal: AbortSignal, request: (session: S3Session<S3Limits>) => Promise<T>): Promise<T | undefined> {
    const session = await openS3Session({ ...options, key: requireKey(key), limits }, signal);
    try {
      return await withRetries(() => request(session), { clock, random, limits, signal });
    } catch (error) {
      if (s3ErrorStatus(error) === 404 && !isBucketMissing(error)) return undefined;
      throw error;
    } finally {
      session.close();
    }
  }

  return {
    read: (place, maxBytes, signal) =>
      ask(place, signal, (session) => get(session, { Bucket: bucket, Key: place }, { signal, maxBytes, isExact: false })),
    look: (place, signal) =>
      ask(place, signal, async (session) => {
        const command = new session.sdk.HeadObjectCommand({ Bucket: bucket, Key: place });
        const { ContentLength, ETag } = await session.request(({ client, http }) => client.send(command, http), { signal });
        if (ContentLength === undefined) throw new DiskliftError('DestinationRejected', `${session.where}: answered without a length`);
        return { sizeBytes: ContentLength, etag: ETag };
      }),
    async readRange(place, { start, end }, signal) {
      const input = { Bucket: bucket, Key: place, Range: `bytes=${start}-${end - 1}` };
      const got = await ask(place, signal, (session) => get(session, input, { signal, maxBytes: end - start, isExact: true }));
      if (got === undefined) throw new DiskliftError('DestinationRejected', `s3://${bucket}/${place}: there is no such object`);
      return got.bytes;
    },
    async write(place, bytes, signal) {
      // One request with the whole object, so that no upload can be left.
      const whole = { partSizeBytes: MAX_FILE_BYTES, limits: { ...options.limits, maxBufferBytes: MAX_FILE_BYTES } };
      const target = createS3Target({ ...options, ...whole, key: requireKey(place), sha256Object: false, ifNotExists: false });
      await sendFile(target, bytes, signal);
    },
    location: (place) => `s3://${bucket}/${place}`,
  };
}

/** @throws DiskliftError `InvalidRequest` for a key that S3 does not take, or that may lead to another bucket */
function requireKey(key: string): string {
  if (key === '' || Buffer.byteLength(key) > MAX_KEY_BYTES)
    throw new DiskliftError('InvalidRequest', `the key ${JSON.stringify(key)} must have from 1 to ${MAX_KEY_BYTES} bytes`);
  if (key.split('/').some((part) => part === '.' || part === '..'))
    throw new DiskliftError('InvalidRequest', `the key ${JSON.stringify(key)} must have no parts . and ..`);
  return key;
}

const MAX_KEY_BYTES = 1024;

function isBucketMissing(error: unknown): boolean {
  return s3ErrorName(error) === 'NoSuchBucket';
}

interface Wanted {
  signal: AbortSignal;
  maxBytes: number;
  /** Whether the body must have exactly `maxBytes`. */
  isExact: boolean;
}

type GetInput = { Bucket: string; Key: string; Range?: string };

function get(session: S3Session<S3Limits>, input: GetInput, { signal, maxBytes, isExact }: Wanted) {
  const where = session.where;
  return session.request(
    async ({ client, http, onMove }) => {
      const { Body, ContentRange, ETag } = await client.send(new session.sdk.GetObjectCommand(input), http);
      const body = Body as Readable;
      const onAbort = () => body.destroy(new DiskliftError('Cancelled', 'nobody waits for it'));
      http.abortSignal.addEventListener('abort', onAbort, { once: true });
      try {
        if (input.Range !== undefined && ContentRange?.startsWith(`${input.Range.replace('=', ' ')}/`) !== true)
          throw new DiskliftError(
            'DestinationRejected',
            `${where}: did not answer with the requested bytes; does the server support ranges?`,
          );
        const chunks: Buffer[] = [];
        let sizeBytes = 0;
        for await (const chunk of body as AsyncIterable<Buffer>) {
          onMove();
          sizeBytes += chunk.length;
          if (sizeBytes > maxBytes) throw new DiskliftError('DestinationRejected', `${where}: has more than ${formatBytes(maxBytes)}`);
          chunks.push(chunk);
        }
        if (isExact && sizeBytes !== maxBytes)
          throw new DiskliftError('DestinationUnreachable', `${where}: the answer ended after ${sizeBytes} of ${maxBytes} bytes`);
        return { bytes: Buffer.concat(chunks), etag: ETag };
      } finally {
        http.abortSignal.removeEventListener('abort', onAbort);
        body.destroy();
      }
    },
    // The loop counts the bytes itself, and one more chunk shows that there are too many.
    { signal, limitMs: session.limits.readBackMs ?? readBackLimitMs(maxBytes), maxAnswerBytes: Number.POSITIVE_INFINITY },
  );
}
