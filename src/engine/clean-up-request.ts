/** Aborts the uploads that an earlier process has left open for a request that has ended or is being deleted. */

import { abortable, throwIfAborted } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { namesOpenUpload } from '../resource/status.ts';
import type { RequestStore } from '../stores/contract.ts';
import { type AbandonContext, abandonUpload } from './abandon-upload.ts';
import type { ExportPlan } from './contract.ts';
import { restoreDiskState } from './disk-status.ts';
import { isFinished } from './export-status.ts';
import { newDiskState } from './observer.ts';

export interface CleanUp {
  store: RequestStore;
  clock: Clock;
  planLeftovers(request: DiskExport): Promise<ExportPlan>;
  warn(message: string, key: string): void;
  /** Aborted when the process must end. */
  stopping: AbortSignal;
  /** Whether the uploads of a request that has not ended are aborted as well. Its clean-up then stays pending. */
  evenActive?: boolean;
}

/**
 * @returns false when another process holds the claim
 * @throws DiskliftError when the destination may still hold an upload
 */
export async function cleanUpRequest(
  key: string,
  { store, clock, planLeftovers, warn, stopping, evenActive = false }: CleanUp,
): Promise<boolean> {
  const claim = await store.claim(key);
  if (claim === undefined) return false;
  try {
    const stored = await store.get(key);
    if (stored?.kind !== 'request') return true;
    const { request, isTerminating } = stored;
    const hasEnded = isTerminating || isFinished(request);
    if (!hasEnded && !evenActive) return true;
    const exportClaim = { assertHeld: () => claim.assertHeld(), saveStates: async () => {} };
    const context = { clock, claim: exportClaim, observer: {}, stopping };
    try {
      if (hasLeftovers(request)) await abandonLeftovers(request, await abortable(planLeftovers(request), stopping), context);
    } catch (error) {
      throwIfAborted(stopping);
      await claim.assertHeld();
      if (!isTerminating || !(error instanceof DiskliftError)) throw error;
      // A destination that does not answer must not block the deletion.
      warn(`an upload is left at the destination: ${error.message}`, key);
    }
    // A request that is being deleted takes its status with it. A store that refuses the status must not block the
    // deletion.
    if (!isTerminating && hasLeftovers(request)) await store.writeStatus(key, withoutUploads(request));
    if (hasEnded) await store.setCleanupPending(key, false);
    return true;
  } finally {
    await claim.release();
  }
}

/** Whether the status names an upload that is open. */
export function hasLeftovers({ status }: { status?: DiskExportStatus | undefined }): boolean {
  return namesOpenUpload(status);
}

function withoutUploads({ status = {} }: DiskExport): DiskExportStatus {
  return { ...status, ...(status.disks === undefined ? {} : { disks: status.disks.map(({ upload: _, ...disk }) => disk) }) };
}

/** @throws DiskliftError when the destination may still hold an upload */
async function abandonLeftovers(request: DiskExport, plan: ExportPlan, context: AbandonContext): Promise<void> {
  for (const disk of plan.disks) {
    const state = restoreDiskState(newDiskState(disk), request.status);
    if (state.upload !== undefined) await abandonUpload(state, () => disk.createTarget(), context);
  }
}
