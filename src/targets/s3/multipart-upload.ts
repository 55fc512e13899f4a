/**
 * Images of several parts. The sequence: save the intent, CreateMultipartUpload, save its id, the parts, the seal,
 * CompleteMultipartUpload. No object exists before the last request. The server keeps a saved upload until it is
 * completed or abandoned.
 */

import type { Part as ListedPart } from '@aws-sdk/client-s3';
import { throwIfAborted } from '../../common/abortable.ts';
import { DiskliftError } from '../../common/errors.ts';
import { startTimeLimit } from '../../common/time-limit.ts';
import { cannotLook, isUploadGone, s3PartLimit, wasNeverSent } from '../../s3/s3-error.ts';
import type { ResumeState } from '../contract.ts';
import { abortOrphaned, abortSaved, abortUpload, listParts, readSavedId, savedIdOf } from './held-uploads.ts';
import { bytesOfImage } from './part-bytes.ts';
import { compositeEtag, type ExpectedObject } from './part-proof.ts';
import { type PartPlan, partsOf, planParts } from './plan-parts.ts';
import {
  assertConsistent,
  conditionOf,
  explained,
  findArrived,
  isAmbiguous,
  isExistsRefusal,
  mayHaveArrived,
  proveObject,
  requireAbsent,
} from './prove-object.ts';
import { type Arrival, metadataOf, retriesOf, type Transfer, withRetries } from './transfer.ts';
import { type Upload, type UploadedPart, uploadParts } from './upload-parts.ts';

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
    // Nothing continues the upload of an earlier attempt.
    if (resume !== undefined) await abortSaved({ savedId: resume.id, session, options, ...retriesOf(transfer) });
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
  // At some servers a part that arrives after the end opens the upload again, and nobody would abort it.
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
 * Plans a second upload within this attempt. Without it, the next attempt would find the same upload if the server
 * cannot list parts. It would meet the same refusal if the server takes fewer parts than planned.
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
  return planParts({ imageSizeBytes: image.sizeBytes, maxParts, minPartBytes: session.limits.minPartBytes });
}

interface Resumed {
  plan: PartPlan;
  /**
   * Empty where the server does not list parts, so that all parts are sent again. Undefined when the upload is gone.
   */
  held: ReadonlyMap<number, ListedPart> | undefined;
}

/**
 * Distinguishes three cases: the upload exists; the upload was completed but the answer was lost; the upload is gone.
 * Where parts cannot be listed, the object is searched as well, because the upload may have been completed.
 * @throws DiskliftError when the server does not answer
 */
async function resumeUpload(transfer: Transfer, resume: ResumeState): Promise<Arrival | Resumed> {
  const { session, options, image, context, progress } = transfer;
  const { partSizeBytes } = resume;
  const plan = planParts({ imageSizeBytes: image.sizeBytes, partSizeBytes, minPartBytes: session.limits.minPartBytes });
  let held: Resumed['held'];
  try {
    return { plan, held: await listParts({ session, options, uploadId: resume.id, ...retriesOf(transfer) }) };
  } catch (error) {
    const isUnlisted = cannotLook(error);
    if (!isUnlisted && !isUploadGone(error)) throw error;
    if (isUnlisted) held = new Map();
  }
  const earlier = await findArrived(transfer, () => expectedOf(plan, transfer));
  if (earlier === undefined) return { plan, held };
  progress.arrive(image.sizeBytes);
  return { ...earlier, ...(await context.seal()) };
}

/** The object that the upload will make. Reads the image. */
async function expectedOf(plan: PartPlan, { image, context: { signal } }: Transfer): Promise<ExpectedObject> {
  const parts: ExpectedObject['parts'][number][] = [];
  for (const part of partsOf(plan)) parts.push({ ...part, md5: await bytesOfImage(image, part).md5(signal), hasOtherTag: false });
  return { tag: compositeEtag(parts.map(({ md5 }) => md5)), parts };
}

/**
 * Time for the answer of a request that was on its way when the export was cancelled. Without its answer nobody could
 * abort the upload.
 */
const GRACE_MS = 400;

/**
 * Saves the intent before the request. The intent stays until the id replaces it, or until it is certain that no upload
 * was made. The next attempt, another process or `abandon` finds the intent and searches the upload that may exist.
 * Without TLS nothing protects the answer that names the upload, so the intent's time stays saved beside the id: the
 * upload may exist under another id.
 * @returns the id, after it was saved
 * @throws DiskliftError
 */
async function createUpload(transfer: Transfer, { partSizeBytes }: PartPlan): Promise<string> {
  const { session, options, image, context } = transfer;
  const orphaned = { session, options, ...retriesOf(transfer) };
  const save = (id: string) => context.saveResume({ id, partSizeBytes, fingerprint: image.fingerprint });
  const { sinceMs: earlierMs } = readSavedId(context.resume?.id ?? '');
  if (earlierMs !== undefined) await abortOrphaned({ ...orphaned, sinceMs: earlierMs });
  const sinceMs = options.clock.nowMs();
  await save(savedIdOf({ sinceMs }));
  const { id, hasLostOne } = await requestUntilNamed(transfer);
  // Before the id replaces the intent: if this fails, the next attempt finds all of them.
  if (hasLostOne) await abortOrphaned({ ...orphaned, sinceMs, namedId: id });
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
  const expired = new DiskliftError('Cancelled', 'the answer did not arrive within the grace period');
  const late = startTimeLimit({ clock: options.clock, limitMs: GRACE_MS, expired, after: context.signal });
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

interface UploadedParts {
  id: string;
  /** In order. */
  parts: UploadedPart[];
}

/** @throws DiskliftError `ChecksumMismatch` when the server has other bytes than those sent */
async function completeUpload(transfer: Transfer, { id, parts }: UploadedParts): Promise<Arrival> {
  const { session, options, context } = transfer;
  const { signal } = context;
  assertConsistent(parts, session.where);
  const list = parts.map(({ completed }) => completed);
  const input = { ...conditionOf(transfer), Bucket: options.bucket, Key: options.key, UploadId: id, MultipartUpload: { Parts: list } };
  const expected = { tag: compositeEtag(parts.map(({ md5 }) => md5)), parts };
  // Hours may have passed since the key was looked at.
  const present = await requireAbsent(transfer, async () => expected);
  const drop = () => abortUpload({ session, options, uploadId: id, ...retriesOf(transfer) });
  if (present !== undefined) {
    await drop();
    return { ...present, ...(await context.seal()) };
  }
  let isUnclear = false;
  const complete = async () => {
    // Before every try, since each one may be the one that makes the object.
    const { sha256 } = await context.seal();
    try {
      const answer = await session.request(({ client, http }) => client.send(new session.sdk.CompleteMultipartUploadCommand(input), http), {
        signal,
        silentMs: session.limits.answerMs,
      });
      return { sha256, answer };
    } catch (error) {
      // An earlier try may have completed the upload that is gone.
      isUnclear ||= mayHaveArrived(error) || isUploadGone(error);
      if (signal.aborted || !isUnclear) throw explained(transfer, error);
      const found = await findArrived(transfer, async () => expected);
      if (found === undefined) throw isUploadGone(error) ? goneError(error as DiskliftError) : explained(transfer, error);
      // The same image came to the key by another upload, and a refusal leaves this one open.
      if (isExistsRefusal(error)) await drop();
      return { sha256, found };
    }
  };
  const { sha256, ...made } = await withRetries(complete, retriesOf(transfer));
  return { sha256, ...('found' in made ? made.found : await proveObject(transfer, expected, made.answer)) };
}

/**
 * Retryable, because the next attempt finds the upload missing and begins a new one. Elsewhere some of these error
 * names are final.
 */
function goneError(error: DiskliftError): DiskliftError {
  return new DiskliftError('DestinationRejected', `${error.message}: neither the upload nor its object is there`, error, {
    retryable: true,
  });
}
