/**
 * Images of several parts. The intent saved; CreateMultipartUpload, and its id saved; the parts; the seal; CompleteMultipartUpload,
 * before which no object exists. What is saved stays at the server until it is completed or abandoned.
 */

import { abortUpload } from './abort-upload.ts';
import { completeUpload } from './complete-upload.ts';
import { createUpload } from './create-upload.ts';
import { dropNameless } from './drop-nameless.ts';
import { requireAbsent } from './if-not-exists.ts';
import { type PartPlan, planParts } from './plan-parts.ts';
import { expectedOf, resumeUpload } from './resume-upload.ts';
import { isUploadGone, s3PartLimit } from './s3-error.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';
import { intendedMs, intentId } from './upload-intent.ts';
import { type Upload, uploadParts } from './upload-parts.ts';

/** @throws DiskliftError */
export async function uploadImage(transfer: Transfer, plan: PartPlan): Promise<Arrival> {
  const { resume } = transfer.context;
  let upload: BegunUpload | undefined;
  if (resume !== undefined && intendedMs(resume.id) === undefined) {
    const resumed = await resumeUpload(transfer, resume);
    if ('proof' in resumed) return resumed;
    if (resumed.held !== undefined) upload = { id: resume.id, plan: resumed.plan, held: resumed.held };
  }
  const isResumed = upload !== undefined;
  const present = await requireAbsent(transfer, () => expectedOf((upload ?? { plan }).plan, transfer));
  if (present !== undefined) {
    if (resume !== undefined) await dropUpload(transfer, resume.id);
    transfer.progress.arrive(transfer.image.sizeBytes);
    return { ...present, ...(await transfer.context.seal()) };
  }
  upload ??= await beginUpload(transfer, plan);
  try {
    return await fillUpload(transfer, upload);
  } catch (error) {
    const next = transfer.context.signal.aborted ? undefined : await planAnew(transfer, { upload, isResumed, plan, error });
    if (next === undefined) throw error;
    return fillUpload(transfer, await beginUpload(transfer, next));
  }
}

/** The image is there already, so nothing continues what an earlier attempt has opened. */
async function dropUpload(transfer: Transfer, id: string): Promise<void> {
  const { session, options } = transfer;
  const sinceMs = intendedMs(id);
  if (sinceMs === undefined) await abortUpload({ session, options, uploadId: id, ...retriesOf(transfer) });
  else await dropNameless({ session, options, sinceMs, ...retriesOf(transfer) });
}

interface BegunUpload extends Upload {
  /** Time of the request that created it, by our clock; left out for an upload of an earlier attempt. */
  sinceMs?: number;
}

async function beginUpload(transfer: Transfer, plan: PartPlan): Promise<BegunUpload> {
  return { ...(await createUpload(transfer, plan)), plan, held: new Map() };
}

async function fillUpload(transfer: Transfer, upload: BegunUpload): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { parts, hasFailedTry } = await sendParts(transfer, upload);
  // A part that arrives behind the end opens the upload again at some servers, and nobody would drop it.
  if (hasFailedTry || context.resume !== undefined) await options.clock.delay(session.limits.lateMs, context.signal);
  return completeUpload(transfer, { id: upload.id, parts });
}

/**
 * Without TLS nothing protects the answer that names an upload. If the server rejects the id when parts arrive, the upload may exist under
 * another id. The intent then replaces the id again, so that the next attempt or the clean-up searches the upload.
 */
async function sendParts(transfer: Transfer, upload: BegunUpload): ReturnType<typeof uploadParts> {
  const { session, image, context } = transfer;
  const { sinceMs, plan } = upload;
  try {
    return await uploadParts(transfer, upload);
  } catch (error) {
    if (isUploadGone(error) && sinceMs !== undefined && session.isPlain)
      await context.saveResume({ id: intentId(sinceMs), partSizeBytes: plan.partSizeBytes, fingerprint: image.fingerprint });
    throw error;
  }
}

interface Failed {
  upload: Upload;
  /** Whether an earlier attempt created `upload`. */
  isResumed: boolean;
  /** Plan for an upload that begins in this attempt. */
  plan: PartPlan;
  error: unknown;
}

/**
 * Plans a second upload within this attempt. Without it, the next attempt would find the same upload if the server cannot list parts. It
 * would meet the same refusal if the server takes fewer parts than planned.
 * @returns undefined where a second upload does not help
 */
async function planAnew(transfer: Transfer, { upload, isResumed, plan, error }: Failed): Promise<PartPlan | undefined> {
  const { session, options, image } = transfer;
  if (isUploadGone(error)) return isResumed ? plan : undefined;
  const maxParts = s3PartLimit(error);
  // A part size that the user has set is not changed.
  if (maxParts === undefined || maxParts >= upload.plan.count || options.partSizeBytes !== undefined) return undefined;
  try {
    await abortUpload({ session, options, uploadId: upload.id, ...retriesOf(transfer) });
  } catch {
    // The refusal is more useful to the user than this failure. The upload stays saved.
    return undefined;
  }
  return planParts({ imageSizeBytes: image.sizeBytes, maxParts, leastPartBytes: session.limits.leastPartBytes });
}
