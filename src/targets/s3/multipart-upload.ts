/**
 * Images of several parts. The intent saved; CreateMultipartUpload, and its id saved; the parts; the seal; CompleteMultipartUpload,
 * before which no object exists. What is saved stays at the server until it is completed or abandoned.
 */

import type { Part as ListedPart } from '@aws-sdk/client-s3';
import type { ResumeState } from '../contract.ts';
import { completeUpload } from './complete-upload.ts';
import { createUpload } from './create-upload.ts';
import { compositeEtag } from './etag.ts';
import { findArrived } from './found-object.ts';
import { digestOf } from './hash-pieces.ts';
import { listParts } from './list-parts.ts';
import { bytesOfImage } from './part-bytes.ts';
import { type PartPlan, partsOf, planParts } from './plan-parts.ts';
import { s3ErrorName } from './s3-error.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';
import { intendedMs } from './upload-intent.ts';
import { type Upload, uploadParts } from './upload-parts.ts';

/** @throws DiskliftError */
export async function uploadImage(transfer: Transfer, plan: PartPlan): Promise<Arrival> {
  const { session, options, context } = transfer;
  let upload: Upload | undefined;
  const { resume } = context;
  if (resume !== undefined && intendedMs(resume.id) === undefined) {
    const resumed = await resumeUpload(transfer, resume);
    if ('proof' in resumed) return resumed;
    if (resumed.held !== undefined) upload = { id: resume.id, plan: resumed.plan, held: resumed.held };
  }
  upload ??= { id: await createUpload(transfer, plan), plan, held: new Map() };
  const { parts, hasFailedTry } = await uploadParts(transfer, upload);
  // A part that arrives behind the end opens the upload again at some servers, and nobody would drop it.
  if (hasFailedTry || resume !== undefined) await options.clock.delay(session.limits.lateMs, context.signal);
  return completeUpload(transfer, { id: upload.id, parts });
}

interface Resumed {
  plan: PartPlan;
  /** Undefined when the upload is gone. */
  held: ReadonlyMap<number, ListedPart> | undefined;
}

/** What has become of an earlier attempt's upload: it is there, or it was completed and nobody heard of it, or it is gone. */
async function resumeUpload(transfer: Transfer, resume: ResumeState): Promise<Arrival | Resumed> {
  const { session, options, image, context } = transfer;
  const { partSizeBytes } = resume;
  const plan = planParts({ imageSizeBytes: image.sizeBytes, partSizeBytes, leastPartBytes: session.limits.leastPartBytes });
  try {
    return { plan, held: await listParts({ session, options, uploadId: resume.id, ...retriesOf(transfer) }) };
  } catch (error) {
    if (s3ErrorName(error) !== 'NoSuchUpload') throw error;
  }
  const earlier = await findArrived(transfer, () => tagOf(plan, transfer));
  if (earlier === undefined) return { plan, held: undefined };
  context.progress(image.sizeBytes);
  return { ...earlier, ...(await context.seal()) };
}

/** The tag that an object of these parts has. */
async function tagOf(plan: PartPlan, { image, context: { signal } }: Transfer): Promise<string | undefined> {
  const md5s: string[] = [];
  for (const part of partsOf(plan)) md5s.push(await digestOf('md5', bytesOfImage(image, part), signal));
  return compositeEtag(md5s);
}
