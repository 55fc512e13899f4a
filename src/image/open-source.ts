/** Opens a disk on storage that may hang. */

import { abortable } from '../common/abortable.ts';
import type { DiskSource } from '../sources/contract.ts';

/**
 * Waits for the disk or for `signal`. A disk that hanging storage opens after the abort is closed at once.
 * @throws the failure of `opening`; the signal's reason (DiskliftError), at once
 */
export async function openUnlessAborted(opening: Promise<DiskSource>, signal: AbortSignal): Promise<DiskSource> {
  try {
    return await abortable(opening, signal);
  } catch (error) {
    if (signal.aborted)
      opening
        .then((source) => source.dispose())
        // No caller waits for this result any more.
        .catch(() => {});
    throw error;
  }
}
