/** Finds the state of an earlier attempt's upload. */

import type { Part as ListedPart } from '@aws-sdk/client-s3';
import type { ResumeState } from '../contract.ts';
import { compositeEtag } from './etag.ts';
import type { ExpectedObject } from './expected-object.ts';
import { listParts } from './list-parts.ts';
import { bytesOfImage } from './part-bytes.ts';
import { type PartPlan, partsOf, planParts } from './plan-parts.ts';
import { findArrived } from './prove-object.ts';
import { cannotLook, isUploadGone } from './s3-error.ts';
import { type Arrival, retriesOf, type Transfer } from './transfer.ts';

interface Resumed {
  plan: PartPlan;
  /** Empty where the server does not list parts, so that all parts are sent again. Undefined when the upload is gone. */
  held: ReadonlyMap<number, ListedPart> | undefined;
}

/**
 * Distinguishes three cases: the upload exists; the upload was completed but the answer was lost; the upload is gone. Where parts cannot
 * be listed, the object is searched as well, because the upload may have been completed.
 * @throws DiskliftError when the server does not answer
 */
export async function resumeUpload(transfer: Transfer, resume: ResumeState): Promise<Arrival | Resumed> {
  const { session, options, image, context, progress } = transfer;
  const { partSizeBytes } = resume;
  const plan = planParts({ imageSizeBytes: image.sizeBytes, partSizeBytes, leastPartBytes: session.limits.leastPartBytes });
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
export async function expectedOf(plan: PartPlan, { image, context: { signal } }: Transfer): Promise<ExpectedObject> {
  const parts: ExpectedObject['parts'][number][] = [];
  for (const part of partsOf(plan)) parts.push({ ...part, md5: await bytesOfImage(image, part).md5(signal), hasOtherTag: false });
  return { tag: compositeEtag(parts.map(({ md5 }) => md5)), parts };
}
