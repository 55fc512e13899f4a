/** The status of an export that no worker owns, from what the controller reports. Pure. */

import { isDeepStrictEqual } from 'node:util';
import { timestamp } from '../common/clock.ts';
import { formatDuration } from '../common/text.ts';
import { destinationName } from '../resource/destination-kinds.ts';
import type { DiskExport, DiskExportStatus, DiskStatus } from '../resource/disk-export.ts';
import { fitStatus, type NewCondition, setCondition } from '../resource/status.ts';
import type { RequestEvent } from '../stores/contract.ts';
import type { Report } from './decision.ts';

/** @returns the status to write; undefined when the present one says the same */
export function reportedStatusOf(request: DiskExport, report: Report, nowMs: number): DiskExportStatus | undefined {
  const { status: previous = {}, metadata } = request;
  const { nextAttemptTime: _, disks, ...kept } = previous;
  const { generation: observedGeneration } = metadata;
  let { conditions = [] } = previous;
  for (const condition of conditionsOf(report)) conditions = setCondition(conditions, condition, { observedGeneration, nowMs });
  const startTime = previous.startTime ?? (report.startMs === undefined ? undefined : timestamp(report.startMs));
  const status = fitStatus({
    ...kept,
    ...(disks === undefined ? {} : { disks: disks.map((disk) => endedDisk(disk, report)) }),
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    phase: report.end ?? 'Pending',
    message: report.message,
    destination: destinationName(request),
    conditions,
    ...(startTime === undefined ? {} : { startTime }),
    ...(report.consistency === undefined ? {} : { consistency: report.consistency }),
    ...(report.snapshotTime === undefined ? {} : { snapshotTime: report.snapshotTime }),
    ...(report.end === undefined ? {} : endOf(startTime, nowMs)),
  });
  return isDeepStrictEqual(status, fitStatus(previous)) ? undefined : status;
}

/** A disk that has not arrived ends with the export. Its upload stays in the status until a worker has aborted it. */
function endedDisk(disk: DiskStatus, { end, reason, message }: Report): DiskStatus {
  const isFinal = disk.phase === 'Succeeded' || disk.phase === 'Failed' || disk.phase === 'Cancelled';
  return end === undefined || isFinal ? disk : { ...disk, phase: end, reason, message };
}

function endOf(startTime: string | undefined, nowMs: number): Pick<DiskExportStatus, 'completionTime' | 'duration'> {
  const durationMs = startTime === undefined ? 0 : nowMs - Date.parse(startTime);
  return { completionTime: timestamp(nowMs), duration: formatDuration(durationMs) };
}

function conditionsOf({ reason, message, end, sourceReady, leftOut }: Report): NewCondition[] {
  return [
    { type: 'Succeeded', status: end === undefined ? 'Unknown' : 'False', reason, message },
    { type: 'Finished', status: end === undefined ? 'False' : 'True', reason, message },
    { type: 'Progressing', status: end === undefined ? 'True' : 'False', reason, message },
    ...(sourceReady === undefined ? [] : [{ type: 'SourceReady', ...sourceReady }]),
    ...(leftOut === undefined ? [] : [{ type: 'VolumesLeftOut', status: 'True', reason: 'NotExportable', message: leftOut } as const]),
  ];
}

/** An event for each new reason, for the end, and for whatever the images lack that the request may have meant. */
export function eventsOf(request: DiskExport, { reason, message, isProblem, leftOut, consistency, end }: Report): RequestEvent[] {
  const { conditions = [] } = request.status ?? {};
  const before = conditions.find(({ type }) => type === 'Succeeded')?.reason;
  const isNew = (type: string) => conditions.every((each) => each.type !== type);
  const isSame = before === reason && end === undefined;
  const events: RequestEvent[] = isSame ? [] : [{ type: isProblem ? 'Warning' : 'Normal', reason, message }];
  if (leftOut !== undefined && isNew('VolumesLeftOut')) events.push({ type: 'Warning', reason: 'VolumesLeftOut', message: leftOut });
  const isVm = request.spec.source.virtualMachine !== undefined;
  if (isVm && consistency === 'Crash' && request.status?.consistency === undefined)
    events.push({
      type: 'Warning',
      reason: 'CrashConsistent',
      message: 'the guest was not frozen: the images are as after a power failure. The guest agent in the VM lets KubeVirt freeze it',
    });
  return events;
}
