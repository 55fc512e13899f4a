/** Why an export ends without success. Pure. */

import type { DiskExport } from '../resource/disk-export.ts';

export interface End {
  phase: 'Failed' | 'Cancelled';
  reason: string;
  message: string;
}

/** Why the export must end without success, whatever its source. */
export function stopReason(request: DiskExport, nowMs: number): End | undefined {
  const { spec, status } = request;
  if (spec.cancel) return { phase: 'Cancelled', reason: 'Cancelled', message: 'cancelled by spec.cancel' };
  if (!(nowMs >= deadlineMsOf(request))) return undefined;
  const doing = status?.message === undefined ? '' : `; the last state: ${status.message}`;
  const message = `the export did not end within ${spec.activeDeadlineSeconds} seconds${doing}`;
  return { phase: 'Failed', reason: 'DeadlineExceeded', message };
}

/** @returns NaN for an export without a deadline, or one that has not begun */
function deadlineMsOf({ spec, status }: DiskExport): number {
  return Date.parse(status?.startTime ?? '') + (spec.activeDeadlineSeconds ?? Number.NaN) * 1000;
}

/** @returns undefined without a deadline, or after it */
export function untilDeadlineMs(request: DiskExport, nowMs: number): number | undefined {
  const leftMs = deadlineMsOf(request) - nowMs;
  return leftMs > 0 ? leftMs : undefined;
}
