/** Drops what an earlier process has left open at the destination of a request that has ended, or is being deleted. */

import { abortable, throwIfAborted } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { RequestStore } from '../stores/contract.ts';
import { abandonLeftovers, hasLeftovers, withoutUploads } from './abandon-leftovers.ts';
import { isFinished } from './idle-status.ts';
import type { ExportPlan } from './run-export.ts';

export interface CleanUp {
  store: RequestStore;
  clock: Clock;
  planLeftovers(request: DiskExport): Promise<ExportPlan>;
  warn(message: string, key: string): void;
  /** Aborted when the process is to end. */
  stopping: AbortSignal;
}

/** @returns false where another process has the request @throws DiskliftError when the destination may still hold something */
export async function cleanUpRequest(key: string, { store, clock, planLeftovers, warn, stopping }: CleanUp): Promise<boolean> {
  const claim = await store.claim(key);
  if (claim === undefined) return false;
  try {
    const stored = await store.get(key);
    if (stored?.kind !== 'request') return true;
    const { request, isTerminating } = stored;
    if (!isTerminating && !isFinished(request)) return true;
    const keeper = { assertHeld: () => claim.assertHeld(), save: async () => {} };
    const context = { clock, keeper, observer: {}, stopping };
    try {
      if (hasLeftovers(request)) await abandonLeftovers(request, await abortable(planLeftovers(request), stopping), context);
    } catch (error) {
      throwIfAborted(stopping);
      await claim.assertHeld();
      if (!isTerminating || !(error instanceof DiskliftError)) throw error;
      // A destination that is dead does not keep a request from going away.
      warn(`an upload is left at the destination: ${error.message}`, key);
    }
    // A store that refuses the status must not keep the request, which goes away with it.
    if (!isTerminating && hasLeftovers(request)) await store.writeStatus(key, withoutUploads(request));
    await store.setCleanupPending(key, false);
    return true;
  } finally {
    await claim.release();
  }
}
