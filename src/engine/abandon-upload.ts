/** Nothing is left behind: what a destination holds open for a disk is dropped. */

import { abortable } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit } from '../common/time-limit.ts';
import type { ExportTarget } from '../targets/contract.ts';
import type { EngineContext } from './context.ts';
import type { DiskState } from './observer.ts';

/** A destination that is dead must not hold the export hostage. */
const LIMIT_MS = 8000;

export type AbandonContext = Pick<EngineContext, 'clock' | 'keeper' | 'observer' | 'stopping'>;

/**
 * Confirms the claim, creates the target and aborts the upload. All of it takes eight seconds at most, and ends when the process stops.
 * @param state loses its `upload`
 * @param createTarget reads the present credentials
 * @throws DiskliftError when the destination may still hold the upload, or when another process may own the export
 */
export async function abandonUpload(
  state: DiskState,
  createTarget: () => Promise<ExportTarget>,
  { clock, keeper, observer, stopping }: AbandonContext,
): Promise<void> {
  const { upload } = state;
  if (upload === undefined) return;
  const late = new DiskliftError('DestinationUnreachable', `no answer within ${LIMIT_MS / 1000} s`);
  const limit = startTimeLimit({ clock, limitMs: LIMIT_MS, expired: late });
  // The export's own signal cannot be used: it is usually aborted already.
  const signal = stopping === undefined ? limit.signal : AbortSignal.any([limit.signal, stopping]);
  try {
    await abortable(keeper.assertHeld(), signal);
    const target = await abortable(createTarget(), signal);
    await abortable(target.abandon(upload, signal), signal);
  } finally {
    limit.stop();
  }
  delete state.upload;
  observer.onChange?.(state);
}
