/** Smaller statuses for a store that refuses the full one, as an API server with another version's CRD does. Pure. */

import { truncated } from '../common/text.ts';
import type { DiskExportStatus, DiskStatus } from '../resource/disk-export.ts';

const MAX_MESSAGE_CHARACTERS = 200;

/** Conditions that every version has. */
const CONDITIONS: ReadonlySet<string> = new Set(['Succeeded', 'Finished', 'Progressing']);

/** @returns the full status, and then ever briefer ones; an open upload is in each of them, because only the status names it */
export function statusesByLength(status: DiskExportStatus): readonly DiskExportStatus[] {
  const brief = briefOf(status);
  const hasUpload = status.disks?.some(({ upload }) => upload !== undefined) ?? false;
  if (hasUpload) return [status, brief];
  const { disks: _, ...bare } = brief;
  return [status, brief, bare];
}

/** The outcome of the export, its receipts and its open uploads. */
function briefOf({
  phase,
  message,
  conditions = [],
  startTime,
  completionTime,
  disks = [],
  unfinishedRuns,
}: DiskExportStatus): DiskExportStatus {
  return {
    ...(phase === undefined ? {} : { phase }),
    ...(message === undefined ? {} : { message: brief(message) }),
    conditions: conditions
      .filter(({ type }) => CONDITIONS.has(type))
      .map((condition) => ({ ...condition, message: brief(condition.message) })),
    ...(startTime === undefined ? {} : { startTime }),
    ...(completionTime === undefined ? {} : { completionTime }),
    ...(unfinishedRuns === undefined ? {} : { unfinishedRuns }),
    disks: disks.map(receiptOf),
  };
}

function receiptOf({ path, phase, attempts, imageBytes, location, sha256, upload }: DiskStatus): DiskStatus {
  return {
    path,
    ...(phase === undefined ? {} : { phase }),
    ...(attempts === undefined ? {} : { attempts }),
    ...(imageBytes === undefined ? {} : { imageBytes }),
    ...(location === undefined ? {} : { location }),
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(upload === undefined ? {} : { upload }),
  };
}

function brief(message: string): string {
  return truncated(message, MAX_MESSAGE_CHARACTERS);
}
