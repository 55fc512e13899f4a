/** Aborts an upload that is open at a destination. */

import { abortable } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit } from '../common/time-limit.ts';
import type { ExportTarget, ResumeState } from '../targets/contract.ts';
import type { EngineContext } from './contract.ts';
import type { DiskState } from './observer.ts';

/** A destination that does not answer must not keep the export from ending. */
const LIMIT_MS = 8000;

/** Limit of the status. */
const MAX_UPLOAD_ID_CHARACTERS = 2048;

export type AbandonContext = Pick<EngineContext, 'clock' | 'claim' | 'observer' | 'stopping'>;

/**
 * Makes sure of the claim, creates the target and aborts the upload. All of it takes eight seconds at most, and ends
 * when the process stops.
 * @param state loses its `upload`
 * @param createTarget reads the present credentials
 * @throws DiskliftError when the destination may still hold the upload, or when another process may own the export
 */
export async function abandonUpload(
  state: DiskState,
  createTarget: () => Promise<ExportTarget>,
  { clock, claim, observer, stopping }: AbandonContext,
): Promise<void> {
  const { upload } = state;
  if (upload === undefined) return;
  const late = new DiskliftError('DestinationUnreachable', `no answer within ${LIMIT_MS / 1000} s`);
  const limit = startTimeLimit({ clock, limitMs: LIMIT_MS, expired: late });
  // The export's own signal cannot be used: it is usually aborted already.
  const signal = stopping === undefined ? limit.signal : AbortSignal.any([limit.signal, stopping]);
  try {
    await abortable(claim.assertHeld(), signal);
    const target = await abortable(createTarget(), signal);
    await abortable(target.abandon(upload, signal), signal);
  } finally {
    limit.stop();
  }
  delete state.upload;
  observer.onChange?.(state);
}

/**
 * @throws DiskliftError `DestinationRejected`: an upload that the status cannot name could not be aborted after a
 * restart
 */
export function requireRecordableUpload(path: string, upload: ResumeState | undefined): void {
  const { length = 0 } = upload?.id ?? '';
  if (upload !== undefined && (length === 0 || length > MAX_UPLOAD_ID_CHARACTERS))
    throw new DiskliftError(
      'DestinationRejected',
      `${path}: the destination gave the upload an id of ${length} characters; from 1 to ${MAX_UPLOAD_ID_CHARACTERS} can be recorded`,
    );
}
