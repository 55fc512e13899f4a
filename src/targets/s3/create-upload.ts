/** The beginning of a multipart upload. */

import { cancelledError } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { dropNameless } from './drop-nameless.ts';
import { isAmbiguous } from './found-object.ts';
import type { PartPlan } from './plan-parts.ts';
import { metadataOf, retriesOf, type Transfer } from './transfer.ts';
import { withRetries } from './with-retries.ts';

/** For the answer of a request that was on its way when the export was cancelled: without it, nobody could abort the upload. */
const GRACE_MS = 400;

/**
 * @returns the id, when it has been saved
 * @throws DiskliftError
 */
export async function createUpload(transfer: Transfer, { partSizeBytes }: PartPlan): Promise<string> {
  const { options, image, context } = transfer;
  const startMs = options.clock.monotonicMs();
  let mayHaveLostOne = false;
  const id = await withRetries(async () => {
    try {
      return await requestUpload(transfer);
    } catch (error) {
      mayHaveLostOne ||= isAmbiguous(error);
      throw error;
    }
  }, retriesOf(transfer));
  await context.saveResume({ id, partSizeBytes, fingerprint: image.fingerprint });
  if (context.signal.aborted) throw cancelledError(context.signal);
  if (mayHaveLostOne) await dropNameless(transfer, { id, sinceMs: options.clock.monotonicMs() - startMs });
  return id;
}

/** Is not cancelled at once: see {@link GRACE_MS}. */
async function requestUpload(transfer: Transfer): Promise<string> {
  const { session, options, context } = transfer;
  const input = {
    Bucket: options.bucket,
    Key: options.key,
    Metadata: metadataOf(transfer),
    ContentType: 'application/octet-stream',
    ...(options.checksum === 'None' ? {} : { ChecksumAlgorithm: options.checksum }),
  };
  const late = lateSignal(context.signal, options.clock);
  try {
    const { UploadId } = await session.request(
      ({ client, http }) => client.send(new session.sdk.CreateMultipartUploadCommand(input), http),
      { signal: late.signal },
    );
    if (UploadId === undefined) throw new DiskliftError('DestinationRejected', `${session.where}: answered without an id for the upload`);
    return UploadId;
  } finally {
    late.stop();
  }
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
