/** Whether the status can name an upload. */

import { DiskliftError } from '../common/errors.ts';
import type { ResumeState } from '../targets/contract.ts';

/** Limit of the status. */
const MAX_UPLOAD_ID_CHARACTERS = 2048;

/** @throws DiskliftError `DestinationRejected`: an upload that the status cannot name could not be dropped after a restart */
export function requireRecordableUpload(path: string, upload: ResumeState | undefined): void {
  const { length = 0 } = upload?.id ?? '';
  if (upload !== undefined && (length === 0 || length > MAX_UPLOAD_ID_CHARACTERS))
    throw new DiskliftError(
      'DestinationRejected',
      `${path}: the destination gave the upload an id of ${length} characters; from 1 to ${MAX_UPLOAD_ID_CHARACTERS} can be recorded`,
    );
}
