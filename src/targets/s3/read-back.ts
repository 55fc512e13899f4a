/** Reads an object back and compares it with the bytes that were sent. */

import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { DiskliftError } from '../../common/errors.ts';
import { readBackLimitMs } from '../../network/answer-limits.ts';
import type { ExpectedPart } from './expected-object.ts';
import { isLookRefused } from './s3-error.ts';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/**
 * Reads these parts of the object, one after the other, and compares their MD5s. Stops at the first one that differs.
 * @returns undefined where the credentials or the server do not allow reading
 * @throws DiskliftError when the server does not answer
 */
export async function isReadBackSame(transfer: Transfer, parts: readonly ExpectedPart[]): Promise<boolean | undefined> {
  for (const part of parts) {
    try {
      const md5 = await withRetries(() => md5OfRange(transfer, part), retriesOf(transfer));
      if (md5 !== part.md5) return md5 === undefined ? undefined : false;
    } catch (error) {
      if (isLookRefused(error)) return undefined;
      throw error;
    }
  }
  return true;
}

/** @returns 'longer' for more bytes than requested; undefined when the server answers with another range than the requested one */
function md5OfRange({ session, options, context, image }: Transfer, { offset, sizeBytes }: ExpectedPart): Promise<string | undefined> {
  const isWhole = sizeBytes === image.sizeBytes;
  const range = `bytes ${offset}-${offset + sizeBytes - 1}`;
  const input = { Bucket: options.bucket, Key: options.key, ...(isWhole ? {} : { Range: range.replace(' ', '=') }) };
  return session.request(
    async ({ client, http, onMove }) => {
      const { Body, ContentRange } = await client.send(new session.sdk.GetObjectCommand(input), http);
      const body = Body as Readable;
      const onAbort = () => body.destroy(new DiskliftError('Cancelled', 'nobody waits for it'));
      http.abortSignal.addEventListener('abort', onAbort, { once: true });
      try {
        if (!isWhole && ContentRange?.startsWith(`${range}/`) !== true) return undefined;
        const hash = createHash('md5');
        let leftBytes = sizeBytes;
        for await (const chunk of body as AsyncIterable<Buffer>) {
          onMove();
          leftBytes -= chunk.length;
          if (leftBytes < 0) return 'longer';
          hash.update(chunk);
        }
        return hash.digest('hex');
      } finally {
        http.abortSignal.removeEventListener('abort', onAbort);
        body.destroy();
      }
    },
    // The loop counts the bytes itself.
    { signal: context.signal, limitMs: session.limits.readBackMs ?? readBackLimitMs(sizeBytes), maxAnswerBytes: Number.POSITIVE_INFINITY },
  );
}
