/** Asks the server for the object at the key. */

import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import { isLookRefused, s3ErrorStatus } from './s3-error.ts';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/**
 * @returns the object's headers; 'missing'; undefined where the credentials or the server do not allow the request
 * @throws DiskliftError when the server does not answer
 */
export async function lookAtObject(transfer: Transfer): Promise<HeadObjectCommandOutput | 'missing' | undefined> {
  const { session, options, context } = transfer;
  const { bucket: Bucket, key: Key } = options;
  const { signal } = context;
  try {
    return await withRetries(
      () => session.request(({ client, http }) => client.send(new session.sdk.HeadObjectCommand({ Bucket, Key }), http), { signal }),
      retriesOf(transfer),
    );
  } catch (error) {
    if (s3ErrorStatus(error) === 404) return 'missing';
    if (isLookRefused(error)) return undefined;
    throw error;
  }
}
