/**
 * Images of several parts. The intent saved; CreateMultipartUpload, and its id saved; the parts; the seal; CompleteMultipartUpload,
 * before which no object exists. What is saved stays at the server until it is completed or abandoned.
 */

import { abortUpload } from './abort-upload.ts';
import { completeUpload } from './complete-upload.ts';
import { createUpload } from './create-upload.ts';
import { dropSaved } from './drop-saved.ts';
import { requireAbsent } from './if-not-exists.ts';
import { type PartPlan, planParts } from './plan-parts.ts';
import { expectedOf, resumeUpload } from './resume-upload.ts';
import { isUploadGone, s3PartLimit } from './s3-error.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';
import { readSavedId } from './upload-intent.ts';
import { type Upload, uploadParts } from './upload-parts.ts';

/** @throws DiskliftError */
export async function uploadImage(transfer: Transfer, plan: PartPlan): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { resume } = context;
  let upload: Upload | undefined;
  const { uploadId } = resume === undefined ? {} : readSavedId(resume.id);
  if (resume !== undefined && uploadId !== undefined) {
    const resumed = await resumeUpload(transfer, { ...resume, id: uploadId });
    if ('proof' in resumed) return resumed;
    if (resumed.held !== undefined) upload = { id: uploadId, plan: resumed.plan, held: resumed.held };
  }
  const isResumed = upload !== undefined;
  const present = await requireAbsent(transfer, () => expectedOf((upload ?? { plan }).plan, transfer));
  if (present !== undefined) {
    // Nothing continues what an earlier attempt has opened.
    if (resume !== undefined) await dropSaved({ savedId: resume.id, session, options, ...retriesOf(transfer) });
    transfer.progress.arrive(transfer.image.sizeBytes);
    return { ...present, ...(await context.seal()) };
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

async function beginUpload(transfer: Transfer, plan: PartPlan): Promise<Upload> {
  return { id: await createUpload(transfer, plan), plan, held: new Map() };
}

async function fillUpload(transfer: Transfer, upload: Upload): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { parts, hasFailedTry } = await uploadParts(transfer, upload);
  // A part that arrives behind the end opens the upload again at some servers, and nobody would drop it.
  if (hasFailedTry || context.resume !== undefined) await options.clock.delay(session.limits.lateMs, context.signal);
  return completeUpload(transfer, { id: upload.id, parts });
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
