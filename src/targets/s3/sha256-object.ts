/** `KEY.sha256`: a line for `sha256sum --check`, beside the image. */

import path from 'node:path';
import { checksumOf } from './checksum.ts';
import { bytesInMemory } from './part-bytes.ts';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/** @param sha256 in hex @throws DiskliftError */
export async function putSha256(transfer: Transfer, sha256: string): Promise<void> {
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
