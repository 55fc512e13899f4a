/** The S3 fake as the destination of a DiskExport. */

import { BUCKET } from './s3-fake.ts';

/** Small parts, one after the other, so that a test can stop between two; the keys are in the Secret `keys`. */
export function s3InParts(endpoint: string, key: string): object {
  const options = { forcePathStyle: true, partSize: '5Mi', concurrency: 1, credentialsSecretRef: { name: 'keys' } };
  return { s3: { endpoint, bucket: BUCKET, key, ...options } };
}
