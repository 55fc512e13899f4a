/** What an export that has ended still holds open at its destination, because its process died before it could drop it. */

import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { type AbandonContext, abandonUpload } from './abandon-upload.ts';
import { restoreDiskState } from './disk-status.ts';
import { type ExportPlan, newDiskState } from './run-export.ts';

export function hasLeftovers({ status }: { status?: DiskExportStatus | undefined }): boolean {
  return status?.disks?.some(({ upload }) => upload !== undefined) ?? false;
}

/** The status of a finished request when nothing is open any more. */
export function withoutUploads({ status = {} }: DiskExport): DiskExportStatus {
  return { ...status, ...(status.disks === undefined ? {} : { disks: status.disks.map(({ upload: _, ...disk }) => disk) }) };
}

/** @throws DiskliftError when the destination may still hold something */
export async function abandonLeftovers(request: DiskExport, plan: ExportPlan, context: AbandonContext): Promise<void> {
  for (const disk of plan.disks) {
    const state = restoreDiskState(newDiskState(disk), request.status);
    if (state.upload !== undefined) await abandonUpload(state, () => disk.createTarget(), context);
  }
}
