/** The images of a bucket beneath a prefix. */

import type { Readable } from 'node:stream';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { createLimiter } from '../../common/limiter.ts';
import { readBackLimitMs } from '../../network/answer-limits.ts';
import { s3ErrorStatus } from '../../s3/s3-error.ts';
import { openS3Session, type S3Session } from '../../s3/s3-session.ts';
import type { S3Credentials, S3SessionLimits } from '../../s3/session-options.ts';
import type { ImageFolder, NamedImage } from './contract.ts';
import { REQUESTS_IN_FLIGHT, type RemoteAccess } from './http-folder.ts';
import { sourceError } from './http-ranges.ts';
import { openRangedFile, type RangeAnswer, type RangeServer, replaced, type WantedRange } from './range-server.ts';

export interface S3FolderOptions extends RemoteAccess {
  /** A URL of http or https. Amazon's own for the region when left out. */
  endpoint?: string | undefined;
  region: string;
  /** The SDK's own chain when left out. */
  credentials?: (() => Promise<S3Credentials>) | undefined;
  limits?: Partial<S3SessionLimits> | undefined;
}

const DEFAULT_LIMITS: S3SessionLimits = { connectMs: 30_000, silentMs: 60_000 };

interface S3Address {
  bucket: string;
  key: string;
}

/** @throws DiskliftError `InvalidRequest` */
function parseS3Url(text: string): S3Address {
  const [, bucket, key] = /^s3:\/\/([a-zA-Z0-9._-]{1,255})\/(.*)$/s.exec(text) ?? [];
  if (bucket === undefined || key === undefined) throw new DiskliftError('InvalidRequest', `${text}: s3://BUCKET/KEY is expected`);
  return { bucket, key };
}

/** @param text s3://BUCKET/KEY @param beneath such a URL above it; the key up to its last slash when left out */
export function nameS3Image(text: string, beneath: string | undefined, options: S3FolderOptions): NamedImage {
  const { bucket, key } = parseS3Url(text);
  const above = beneath === undefined ? undefined : parseS3Url(beneath.endsWith('/') ? beneath : `${beneath}/`);
  const prefix = above?.key ?? key.slice(0, key.lastIndexOf('/') + 1);
  if (!key.startsWith(prefix) || (above !== undefined && above.bucket !== bucket))
    throw new DiskliftError('InvalidRequest', `${text}: does not lie beneath ${beneath}; name a prefix of its key`);
  const path = key.slice(prefix.length);
  if (path === '' || path.endsWith('/')) throw new DiskliftError('InvalidRequest', `${text}: is not the key of an object`);
  return { folder: createS3Folder({ bucket, prefix }, options), path };
}

function createS3Folder({ bucket, prefix }: { bucket: string; prefix: string }, options: S3FolderOptions): ImageFolder {
  const { clock, random, retries, limits, endpoint } = options;
  const requestLimit = createLimiter(REQUESTS_IN_FLIGHT);
  const closed = new AbortController();
  const sessions: S3Session[] = [];
  return {
    async open(path, signal) {
      const key = `${prefix}${path}`;
      // Most servers except Amazon's have buckets in the path.
      const address = { ...options, bucket, key, forcePathStyle: endpoint !== undefined, checksum: 'None' as const };
      const session = await openS3Session({ ...address, limits: { ...DEFAULT_LIMITS, ...limits } }, signal).catch((error: unknown) => {
        throw sourceError(`s3://${bucket}/${key}`, error);
      });
      sessions.push(session);
      return openRangedFile(
        createS3Ranges(session, { bucket, key }),
        { clock, random, retries, requestLimit, closed: closed.signal },
        signal,
      );
    },
    nameOf: (path) => `s3://${bucket}/${prefix}${path}`,
    async dispose() {
      closed.abort(new DiskliftError('Cancelled', 'closed'));
      for (const session of sessions) session.close();
    },
  };
}

function createS3Ranges(session: S3Session, { bucket, key }: S3Address): RangeServer {
  const { sdk, where: name } = session;

  async function get(range: WantedRange, signal: AbortSignal): Promise<RangeAnswer> {
    try {
      return await getRange(range, signal);
    } catch (error) {
      throw failureOf(error, range);
    }
  }

  function getRange({ start, end, version }: WantedRange, signal: AbortSignal): Promise<RangeAnswer> {
    const condition = version?.etag === undefined ? {} : { IfMatch: version.etag };
    const input = { Bucket: bucket, Key: key, Range: `bytes=${start}-${end - 1}`, ...condition };
    return session.request(
      async ({ client, http, onMove }) => {
        const { Body, ContentRange, ETag, LastModified } = await client.send(new sdk.GetObjectCommand(input), http);
        const body = Body as Readable;
        const onAbort = () => body.destroy(new DiskliftError('Cancelled', 'nobody waits for it'));
        http.abortSignal.addEventListener('abort', onAbort, { once: true });
        try {
          const { sizeBytes, length } = sentRange(ContentRange, { start, end });
          const bytes = Buffer.allocUnsafeSlow(length);
          let done = 0;
          for await (const chunk of body as AsyncIterable<Buffer>) {
            onMove();
            if (done + chunk.length > length) throw refusal(`the server sent more than the ${length} bytes at offset ${start}`);
            bytes.set(chunk, done);
            done += chunk.length;
          }
          return { bytes: bytes.subarray(0, done), sizeBytes, version: { etag: ETag, modified: LastModified?.toISOString() } };
        } finally {
          http.abortSignal.removeEventListener('abort', onAbort);
          body.destroy();
        }
      },
      { signal, limitMs: readBackLimitMs(end - start), maxAnswerBytes: end - start + MIB },
    );
  }

  function sentRange(text: string | undefined, { start, end }: WantedRange): { sizeBytes: number; length: number } {
    const [, first, last, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(text ?? '') ?? [];
    if (total === undefined) throw refusal('the server ignores ranges; download the image, or keep it where ranges work');
    const [sizeBytes, endSent] = [Number(total), Number(last) + 1];
    if (Number(first) !== start || endSent !== Math.min(end, sizeBytes))
      throw refusal(`the server answers with bytes ${first}-${last} to a request for ${start}-${end - 1}`);
    return { sizeBytes, length: endSent - start };
  }

  function refusal(why: string): DiskliftError {
    return new DiskliftError('SourceReadError', `${name}: ${why}`, undefined, { retryable: false });
  }

  function failureOf(error: unknown, { start, version }: WantedRange): DiskliftError {
    const status = s3ErrorStatus(error);
    if (status === 412) return replaced(name);
    if (status === 416 && start === 0) return refusal('the object is empty');
    if (status === 404)
      return version === undefined
        ? new DiskliftError('SourceNotFound', `${name}: is not there`, error)
        : new DiskliftError('SourceChanged', `${name}: was removed while it was read`, error);
    if (error instanceof DiskliftError && error.code === 'CredentialsInvalid')
      return new DiskliftError('SourcePermissionDenied', error.message, error);
    return sourceError(name, error);
  }

  return { name, get };
}
