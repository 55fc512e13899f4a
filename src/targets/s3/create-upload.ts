/** The beginning of a multipart upload. */

import { cancelledError } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { PartPlan } from './plan-parts.ts';
import { metadataOf, retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/** For the answer of a request that was on its way when the export was cancelled: without it, nobody could abort the upload. */
const GRACE_MS = 600;

/**
 * @returns the id, when it has been saved
 * @throws DiskliftError
 */
export async function createUpload(transfer: Transfer, { partSizeBytes }: PartPlan): Promise<string> {
  const { session, options, image, context } = transfer;
  const { signal } = context;
  const about = { Bucket: options.bucket, Key: options.key, Metadata: metadataOf(transfer), ContentType: 'application/octet-stream' };
  const algorithm = options.checksum === 'None' ? {} : { ChecksumAlgorithm: options.checksum };
  const late = lateSignal(signal, options.clock);
  let id: string | undefined;
  try {
    const answer = await withRetries(
      () =>
        session.request(({ client, http }) => client.send(new session.sdk.CreateMultipartUploadCommand({ ...about, ...algorithm }), http), {
          signal: late.signal,
        }),
      retriesOf(transfer),
    );
    id = answer.UploadId;
  } finally {
    late.stop();
  }
  if (id === undefined) throw new DiskliftError('DestinationRejected', `${session.where}: answered without an id for the upload`);
  await context.saveResume({ id, partSizeBytes, fingerprint: image.fingerprint });
  if (signal.aborted) throw cancelledError(signal);
  return id;
}

/** @returns a signal that is aborted some time after `signal` */
function lateSignal(signal: AbortSignal, clock: Clock): { signal: AbortSignal; stop(): void } {
  const late = new AbortController();
  const stopped = new AbortController();
  const onAbort = () => {
    clock.delay(GRACE_MS, stopped.signal).then(
      () => late.abort(cancelledError(signal)),
      () => {},
    );
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return {
    signal: late.signal,
    stop() {
      signal.removeEventListener('abort', onAbort);
      stopped.abort(new DiskliftError('Cancelled', 'stopped'));
    },
  };
}
