/** An upload of an earlier attempt that nothing continues. */

import { abortUpload } from './abort-upload.ts';
import { dropNameless } from './drop-nameless.ts';
import type { UploadListing } from './list-uploads.ts';
import { readSavedId } from './upload-intent.ts';

/**
 * Aborts the upload that is saved as `savedId`. Where the server does not know an id that may have been damaged on its way, the upload that
 * was made then is searched.
 * @throws DiskliftError when such an upload may still be there
 */
export async function dropSaved({ savedId, ...common }: UploadListing & { savedId: string }): Promise<void> {
  const { uploadId, sinceMs } = readSavedId(savedId);
  const end = uploadId === undefined ? 'unknown' : await abortUpload({ ...common, uploadId });
  if (end === 'unknown' && sinceMs !== undefined) await dropNameless({ ...common, sinceMs });
}
