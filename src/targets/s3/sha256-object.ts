/** `KEY.sha256`: a line for `sha256sum --check`, beside the image. */

import path from 'node:path';
import { retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/** @param sha256 in hex @throws DiskliftError */
export async function putSha256(transfer: Transfer, sha256: string): Promise<void> {
  const { session, options, context } = transfer;
  const input = {
    Bucket: options.bucket,
    Key: `${options.key}.sha256`,
    Body: Buffer.from(`${sha256}  ${path.posix.basename(options.key)}\n`),
    ContentType: 'text/plain',
  };
  const { signal } = context;
  await withRetries(
    () => session.request(({ client, http }) => client.send(new session.sdk.PutObjectCommand(input), http), { signal }),
    retriesOf(transfer),
  );
}
