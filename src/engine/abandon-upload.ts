/** Nothing is left behind: what a destination holds open for a disk is dropped. */

import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit } from '../common/time-limit.ts';
import type { ExportTarget } from '../targets/contract.ts';
import type { EngineContext } from './context.ts';
import type { DiskState } from './observer.ts';

/** A destination that is dead must not hold the export hostage. */
const LIMIT_MS = 8000;

/**
 * @param state loses its `upload`
 * @throws DiskliftError when the destination may still hold it, or when the export is somebody else's by now
 */
export async function abandonUpload(
  state: DiskState,
  target: ExportTarget,
  { clock, keeper, observer }: Pick<EngineContext, 'clock' | 'keeper' | 'observer'>,
): Promise<void> {
  const { upload } = state;
  if (upload === undefined) return;
  await keeper.confirm();
  const limit = startTimeLimit(clock, LIMIT_MS, new DiskliftError('DestinationUnreachable', `no answer within ${LIMIT_MS / 1000} s`));
  try {
    // Not the export's own signal: that is aborted already when this is needed most.
    await target.abandon(upload, limit.signal);
  } finally {
    limit.stop();
  }
  delete state.upload;
  observer.onChange?.(state);
}
