/** Opening a disk on storage that may hang. */

import { abortable } from '../common/abortable.ts';
import type { DiskSource } from '../sources/contract.ts';

/**
 * Waits for the disk or for `signal`. Storage that hangs may open the disk after the abort: then it is closed at once.
 * @throws what `opening` throws; DiskliftError what `signal` was aborted with, at once
 */
export async function openUnlessAborted(opening: Promise<DiskSource>, signal: AbortSignal): Promise<DiskSource> {
  try {
    return await abortable(opening, signal);
  } catch (error) {
    if (signal.aborted)
      opening
        .then((source) => source.dispose())
        // Nobody waits for it any more.
        .catch(() => {});
    throw error;
  }
}
