/** The beginning of a multipart upload. */

import { cancelledError, throwIfAborted } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { dropNameless } from './drop-nameless.ts';
import type { PartPlan } from './plan-parts.ts';
import { isAmbiguous } from './prove-object.ts';
import { wasNeverSent } from './s3-error.ts';
import { metadataOf, retriesOf, type Transfer } from './transfer.ts';
import { readSavedId, savedIdOf } from './upload-intent.ts';
import { withRetries } from './with-retries.ts';

/** For the answer of a request that was on its way when the export was cancelled: without it, nobody could abort the upload. */
const GRACE_MS = 400;

/**
 * Saves the intent before the request. The intent stays until the id replaces it, or until it is certain that no upload was made. The next
 * attempt, another process or `abandon` finds the intent and searches the upload that may exist. Without TLS nothing protects the answer
 * that names the upload, so the intent's time stays saved beside the id: the upload may exist under another id.
 * @returns the id, after it was saved
 * @throws DiskliftError
 */
export async function createUpload(transfer: Transfer, { partSizeBytes }: PartPlan): Promise<string> {
  const { session, options, image, context } = transfer;
  const nameless = { session, options, ...retriesOf(transfer) };
  const save = (id: string) => context.saveResume({ id, partSizeBytes, fingerprint: image.fingerprint });
  const { sinceMs: earlierMs } = readSavedId(context.resume?.id ?? '');
  if (earlierMs !== undefined) await dropNameless({ ...nameless, sinceMs: earlierMs });
  const sinceMs = options.clock.nowMs();
  await save(savedIdOf({ sinceMs }));
  const { id, hasLostOne } = await requestUntilNamed(transfer);
  // As long as the intent stands: where this fails, the next attempt finds all of them.
  if (hasLostOne) await dropNameless({ ...nameless, sinceMs, namedId: id });
  await save(session.isPlain ? savedIdOf({ sinceMs, uploadId: id }) : id);
  throwIfAborted(context.signal);
  return id;
}

async function requestUntilNamed(transfer: Transfer): Promise<{ id: string; hasLostOne: boolean }> {
  const { context } = transfer;
  let hasLostOne = false;
  const request = async () => {
    try {
      return await requestUpload(transfer);
    } catch (error) {
      hasLostOne ||= context.signal.aborted || (isAmbiguous(error) && !wasNeverSent(error));
      throw error;
    }
  };
  try {
    return { id: await withRetries(request, retriesOf(transfer)), hasLostOne };
  } catch (error) {
    if (!hasLostOne) await context.saveResume(undefined);
    throw error;
  }
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
