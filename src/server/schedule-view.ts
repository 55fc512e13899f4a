/** A schedule as /api/v1/schedules and the status page show it. Pure. */

import { printable } from '../common/text.ts';
import type { DiskExportScheduleSpec, DiskExportScheduleStatus } from '../resource/export-schedule.ts';

interface ScheduleView {
  namespace: string;
  name: string;
  /** Absent where the schedule cannot be read, like `timeZone`. */
  schedule?: string;
  timeZone?: string;
  isSuspended: boolean;
  /** Exports that have not ended. */
  activeCount: number;
  lastScheduleTime?: string;
  lastSuccessfulTime?: string;
  nextScheduleTime?: string;
  /** Whether a run was missed or has failed for longer than the schedule allows, or no run can be started. */
  isProblem: boolean;
  /** Reason and message of the condition that a reader needs most. */
  reason?: string;
  message?: string;
}

export interface SchedulePage {
  total: number;
  /** Those with a problem first, then by their next run. */
  items: ScheduleView[];
}

export interface ScheduleFacts {
  metadata: { namespace: string; name: string };
  /** An error message where the schedule cannot be read. */
  spec: DiskExportScheduleSpec | string;
  status: DiskExportScheduleStatus;
}

const MAX_ITEMS = 200;

function scheduleViewOf({ metadata: { namespace, name }, spec, status }: ScheduleFacts): ScheduleView {
  const { lastScheduleTime, lastSuccessfulTime, nextScheduleTime, activeCount = 0, conditions = [] } = status;
  const [ready, upToDate] = ['Ready', 'UpToDate'].map((type) => conditions.find((condition) => condition.type === type));
  const isRead = typeof spec !== 'string';
  const isReady = isRead && ready?.status !== 'False';
  const { reason, message } = (isReady && ready?.reason !== 'Suspended' ? upToDate : ready) ?? {};
  return {
    namespace,
    name,
    ...(isRead ? { schedule: printable(spec.schedule) } : {}),
    ...(isRead && spec.timeZone !== undefined ? { timeZone: printable(spec.timeZone) } : {}),
    isSuspended: isRead && spec.suspend,
    activeCount,
    ...(lastScheduleTime === undefined ? {} : { lastScheduleTime }),
    ...(lastSuccessfulTime === undefined ? {} : { lastSuccessfulTime }),
    ...(nextScheduleTime === undefined ? {} : { nextScheduleTime }),
    isProblem: !isReady || upToDate?.status === 'False',
    ...(reason === undefined ? {} : { reason }),
    ...(isRead ? (message === undefined ? {} : { message }) : { message: printable(spec) }),
  };
}

export function schedulePageOf(schedules: Iterable<ScheduleFacts>): SchedulePage {
  const views = [...schedules].map(scheduleViewOf).sort(byUrgency);
  return { total: views.length, items: views.slice(0, MAX_ITEMS) };
}

function byUrgency(a: ScheduleView, b: ScheduleView): number {
  if (a.isProblem !== b.isProblem) return a.isProblem ? -1 : 1;
  const [sortA, sortB] = [a, b].map(({ nextScheduleTime = '~', namespace, name }) => `${nextScheduleTime} ${namespace}/${name}`) as [
    string,
    string,
  ];
  return sortA < sortB ? -1 : sortA > sortB ? 1 : 0;
}
