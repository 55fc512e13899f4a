/** The status of a request that no process runs. Pure. */

import { destinationName } from '../resource/destination-kinds.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { fitStatus, setCondition } from '../resource/status.ts';
import { timestamp } from '../resource/timestamp.ts';
import type { StoredRequest } from '../stores/contract.ts';

interface Idle {
  /** Queued: this process runs the request when a slot is free. Unclaimed: this process cannot run it. */
  reason: 'Queued' | 'Unclaimed';
  message: string;
  nowMs: number;
}

/** No process has begun the export. */
export function waitingStatusOf(request: DiskExport, { reason, message, nowMs }: Idle): DiskExportStatus {
  const { generation: observedGeneration } = request.metadata;
  const waiting = { reason, message };
  return fitStatus({
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    phase: 'Pending',
    message,
    destination: destinationName(request),
    conditions: setCondition(
      setCondition([], { type: 'Succeeded', status: 'Unknown', ...waiting }, { observedGeneration, nowMs }),
      { type: 'Finished', status: 'False', ...waiting },
      { observedGeneration, nowMs },
    ),
  });
}

/** @returns undefined when the status says so already, or is the status of an export that has begun */
export function invalidStatusOf(
  { message, status }: Extract<StoredRequest, { kind: 'invalid' }>,
  nowMs: number,
): DiskExportStatus | undefined {
  const isOfAnExport = status?.startTime !== undefined;
  if (isOfAnExport || status?.message === fitStatus({ message }).message) return undefined;
  let { conditions = [] } = status ?? {};
  const invalid = { reason: 'InvalidRequest', message };
  for (const [type, state] of [
    ['Succeeded', 'False'],
    ['Finished', 'True'],
    ['Progressing', 'False'],
  ] as const)
    conditions = setCondition(conditions, { type, status: state, ...invalid }, { nowMs });
  return fitStatus({ phase: 'Failed', message, conditions, completionTime: timestamp(nowMs) });
}

/** Whether a request was edited after its last status. An edit does not change the outcome. */
export function isEdited({ metadata: { generation }, status }: DiskExport): boolean {
  return generation !== undefined && status !== undefined && status.observedGeneration !== generation;
}

export function isFinished({ status }: DiskExport): boolean {
  return status?.completionTime !== undefined;
}
