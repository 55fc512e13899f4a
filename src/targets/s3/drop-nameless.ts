/** Uploads that were made by requests whose answers got lost: nobody has their names, and they would stay for ever. */

import { abortUpload } from './abort-upload.ts';
import { listParts } from './list-parts.ts';
import { listUploads, type UploadListing } from './list-uploads.ts';
import { cannotLook, s3ErrorName } from './s3-error.ts';

export interface NamelessUploads extends UploadListing {
  /** When the first of them may have been asked for; epoch, by our clock. */
  sinceMs: number;
  /** The upload that is ours; left out: none is. */
  namedId?: string | undefined;
}

/** Servers tell their time and that of an upload in whole seconds, and our clock may have been set meanwhile. */
const CLOCK_MARGIN_MS = 2000;

/**
 * Aborts what was made for the same key since then, and holds nothing. What is older, or holds a part, or is for another key, is
 * left alone. An upload that another export to the same key has made in that time, and has sent nothing to yet, cannot be told
 * from ours: that export is told NoSuchUpload and begins anew.
 *
 * Where the credentials do not allow to look, or the server does not know the question, nothing can be done, now or later: this is
 * no failure then.
 * @throws DiskliftError when such an upload may still be there
 */
export async function dropNameless(nameless: NamelessUploads): Promise<void> {
  const { clock, signal, limits, namedId } = nameless;
  try {
    // When ours has a name, the others are older, and can be seen.
    if ((await dropSeen(nameless)) > 0 || namedId !== undefined) return;
    await clock.delay(limits.lateMs, signal);
    await dropSeen(nameless);
  } catch (error) {
    if (!cannotLook(error)) throw error;
  }
}

/** @returns how many there were */
async function dropSeen({ sinceMs, namedId, ...common }: NamelessUploads): Promise<number> {
  const { uploads, skewMs } = await listUploads(common);
  const earliestMs = sinceMs + skewMs - CLOCK_MARGIN_MS;
  let count = 0;
  for (const { UploadId: uploadId, Initiated } of uploads) {
    const isOfThen = (Initiated?.getTime() ?? Number.NEGATIVE_INFINITY) >= earliestMs;
    if (uploadId === undefined || uploadId === namedId || !isOfThen || !(await isEmpty({ ...common, uploadId }))) continue;
    await abortUpload({ ...common, uploadId });
    count += 1;
  }
  return count;
}

async function isEmpty(upload: UploadListing & { uploadId: string }): Promise<boolean> {
  try {
    return (await listParts(upload)).size === 0;
  } catch (error) {
    // Completed or aborted meanwhile, by whoever has its name.
    if (s3ErrorName(error) === 'NoSuchUpload') return false;
    throw error;
  }
}
