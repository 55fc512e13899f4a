/**
 * Decides about one schedule: which export to create, to cancel and to delete. Pure. The rules are those of a CronJob:
 *
 * - Only the last of several missed runs starts, and none later than startingDeadlineSeconds.
 * - The name of an export comes from its scheduled time. A second create of the same run is refused by the API server.
 * - With Forbid and Replace a run starts when no earlier export is unfinished.
 */

import { timestamp } from '../../common/clock.ts';
import type { Condition } from '../../resource/disk-export.ts';
import type { DiskExportScheduleSpec, DiskExportScheduleStatus } from '../../resource/export-schedule.ts';
import { SCHEDULED_TIME } from '../../resource/placeholders.ts';
import type { RequestEvent } from '../../stores/contract.ts';
import type { Unsaved } from '../../stores/kubernetes/client/contract.ts';
import type { ScheduleObject } from '../../stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../../stores/kubernetes/client/objects.ts';
import type { ScheduleState } from './observer.ts';
import {
  exportsOf,
  type ReadSchedule,
  readScheduleObject,
  SCHEDULE_LABEL,
  SCHEDULE_RESOURCE,
  type ScheduledExport,
  timeOf,
} from './schedule-object.ts';
import { overdueTimeMs, scheduleConditions } from './schedule-status.ts';
import { readScheduleTimes, type ScheduleTimes } from './schedule-times.ts';

export interface ObservedSchedule {
  schedule: ScheduleObject;
  /** Exports in the namespace with the label of the schedule. */
  exports: Iterable<ExportObject>;
  nowMs: number;
  /** Scheduled time of the last run that this process has started: the copies of the objects may be older. */
  startedMs?: number | undefined;
  /** The API server has just refused the new export: reason and message of the condition Ready. */
  refusal?: Refusal | undefined;
}

export type Refusal = Pick<Condition, 'reason' | 'message'>;

export type NamedExport = Pick<ScheduledExport, 'name' | 'uid'>;

export type NewExport = Unsaved<ExportObject> & { apiVersion: string; kind: string };

/** An event that is recorded once for each time. */
export interface ScheduleEvent extends RequestEvent {
  ofMs: number;
}

export interface SchedulePlan {
  create: NewExport | undefined;
  /** Scheduled time of the export to create. */
  createMs: number | undefined;
  /** Unfinished exports whose spec.cancel is to be set. */
  cancel: readonly NamedExport[];
  /** Finished exports beyond the limits of the history. They are deleted only after the status was written. */
  remove: readonly NamedExport[];
  /** The status once the export was created. */
  status: DiskExportScheduleStatus;
  events: ScheduleEvent[];
  state: ScheduleState;
  /** Undefined: nothing happens before an object changes. */
  requeueAfterMs: number | undefined;
}

/** Names in the status. */
const MAX_ACTIVE = 100;

export function reconcileSchedule({ schedule: object, exports, nowMs, startedMs = 0, refusal }: ObservedSchedule): SchedulePlan {
  const schedule = readScheduleObject(object);
  const known = { schedule, exports: exportsOf(schedule, exports), nowMs };
  const { spec } = schedule;
  if (typeof spec === 'string') return unreadable(known, { reason: 'InvalidSchedule', message: spec });
  const times = readScheduleTimes(spec.schedule, spec.timeZone);
  if ('reason' in times) return unreadable({ ...known, spec }, times);
  return decide({ ...known, spec, times, startedMs, refusal });
}

interface Known {
  schedule: ReadSchedule;
  exports: ScheduledExport[];
  nowMs: number;
  spec?: DiskExportScheduleSpec;
}

interface Readable extends Known {
  spec: DiskExportScheduleSpec;
  times: ScheduleTimes;
  startedMs: number;
  refusal: Refusal | undefined;
}

function decide(known: Readable): SchedulePlan {
  const { schedule, exports, nowMs, spec, times, refusal } = known;
  const unfinished = exports.filter(({ result }) => result === 'Unfinished');
  const lastScheduleMs = lastScheduledMs(known);
  const run = spec.suspend ? { events: [] } : dueRun(known, lastScheduleMs ?? schedule.createdMs);
  const isHeld = run.dueMs !== undefined && spec.concurrencyPolicy !== 'Allow' && unfinished.length > 0;
  const createMs = isHeld || refusal !== undefined ? undefined : run.dueMs;
  const create = createMs === undefined ? undefined : newExport(schedule, spec, createMs);
  const cancelled =
    isHeld && spec.concurrencyPolicy === 'Replace' ? unfinished.filter((each) => !each.isCancelled && !each.isTerminating) : [];
  const lastSuccessMs = latestSuccessMs(known);
  const overdueMs = overdueTimeMs(times, lastSuccessMs ?? schedule.createdMs);
  const nextMs = spec.suspend ? undefined : times.nextMs(nowMs);
  const active = [...unfinished.map(({ name }) => name), ...(create === undefined ? [] : [create.metadata.name])];
  return {
    create,
    createMs,
    cancel: cancelled,
    remove: beyondHistory(exports, spec),
    status: {
      ...statusOf(known, { active, lastScheduleMs: createMs ?? lastScheduleMs, lastSuccessMs, nextMs }),
      conditions: scheduleConditions(schedule.status.conditions ?? [], {
        problem: refusal,
        isSuspended: spec.suspend,
        lastSuccessMs,
        overdueMs,
        generation: schedule.metadata.generation,
        nowMs,
      }),
    },
    events: [...(isHeld ? [heldEvent(run.dueMs as number, unfinished, spec)] : run.events)],
    state: { isSuspended: spec.suspend, lastSuccessMs, nextMs, overdueMs },
    requeueAfterMs: earliestWaitMs([nextMs, overdueMs], nowMs),
  };
}

/** A schedule that cannot be read creates nothing, so it is overdue at once. Its exports and its history stay. */
function unreadable(known: Known, problem: Refusal): SchedulePlan {
  const { schedule, exports, nowMs, spec } = known;
  const lastSuccessMs = latestSuccessMs(known);
  const isSuspended = spec?.suspend ?? false;
  const facts = { problem, isSuspended, lastSuccessMs, overdueMs: undefined, generation: schedule.metadata.generation, nowMs };
  const conditions = scheduleConditions(schedule.status.conditions ?? [], facts);
  const active = exports.filter(({ result }) => result === 'Unfinished').map(({ name }) => name);
  const sinceMs = timeOf(conditions.find(({ type }) => type === 'Ready')?.lastTransitionTime) ?? nowMs;
  const lastScheduleMs = timeOf(schedule.status.lastScheduleTime);
  return {
    create: undefined,
    createMs: undefined,
    cancel: [],
    remove: [],
    status: { ...statusOf(known, { active, lastScheduleMs, lastSuccessMs, nextMs: undefined }), conditions },
    events: [{ type: 'Warning', reason: problem.reason, message: problem.message, ofMs: sinceMs }],
    state: { isSuspended, lastSuccessMs, nextMs: undefined, overdueMs: sinceMs },
    requeueAfterMs: undefined,
  };
}

/** A time in the future is ignored: the clock of an earlier process was wrong, or a user has edited an annotation. */
function lastScheduledMs({ schedule, exports, nowMs, startedMs }: Readable): number | undefined {
  const times = [timeOf(schedule.status.lastScheduleTime) ?? 0, startedMs, ...exports.map(({ scheduledMs }) => scheduledMs)];
  const lastMs = times.filter((timeMs) => timeMs <= nowMs).reduce((a, b) => Math.max(a, b), 0);
  return lastMs === 0 ? undefined : lastMs;
}

function latestSuccessMs({ schedule, exports }: Known): number | undefined {
  const successes = exports.map(({ result, completedMs = 0 }) => (result === 'Succeeded' ? completedMs : 0));
  const lastMs = [timeOf(schedule.status.lastSuccessfulTime) ?? 0, ...successes].reduce((a, b) => Math.max(a, b), 0);
  return lastMs === 0 ? undefined : lastMs;
}

interface DueRun {
  /** Undefined: no run is due. */
  dueMs?: number | undefined;
  events: ScheduleEvent[];
}

/** @param sinceMs the last run that was started, or the creation of the schedule */
function dueRun({ spec: { startingDeadlineSeconds }, times, nowMs }: Readable, sinceMs: number): DueRun {
  const lastMs = times.lastMs(sinceMs, nowMs);
  if (lastMs === undefined) return { events: [] };
  if (startingDeadlineSeconds !== undefined && lastMs < nowMs - startingDeadlineSeconds * 1000) {
    const message = `The run of ${timestamp(lastMs)} was not started within ${startingDeadlineSeconds} s (startingDeadlineSeconds).`;
    return { events: [{ type: 'Warning', reason: 'RunMissed', message, ofMs: lastMs }] };
  }
  const firstMs = times.nextMs(sinceMs) as number;
  if (firstMs === lastMs) return { dueMs: lastMs, events: [] };
  const message = `The runs from ${timestamp(firstMs)} on were missed. Only the run of ${timestamp(lastMs)} is started.`;
  return { dueMs: lastMs, events: [{ type: 'Warning', reason: 'RunMissed', message, ofMs: lastMs }] };
}

function heldEvent(dueMs: number, unfinished: readonly ScheduledExport[], { concurrencyPolicy }: DiskExportScheduleSpec): ScheduleEvent {
  const names = unfinished.map(({ name }) => name).slice(0, 3);
  const end = concurrencyPolicy === 'Replace' ? 'which is cancelled' : 'which has not ended';
  const message = `The run of ${timestamp(dueMs)} waits for ${names.join(', ')}, ${end} (concurrencyPolicy ${concurrencyPolicy}).`;
  return { type: 'Normal', reason: 'RunWaits', message, ofMs: dueMs };
}

function newExport({ metadata }: ReadSchedule, { exportTemplate }: DiskExportScheduleSpec, scheduledMs: number): NewExport {
  const { name, namespace, uid } = metadata;
  const { labels = {}, annotations = {} } = exportTemplate.metadata ?? {};
  return {
    apiVersion: SCHEDULE_RESOURCE.apiVersion,
    kind: 'DiskExport',
    metadata: {
      name: `${name}-${Math.floor(scheduledMs / 60_000)}`,
      namespace,
      labels: { ...labels, [SCHEDULE_LABEL]: name },
      annotations: { ...annotations, [SCHEDULED_TIME]: timestamp(scheduledMs) },
      ownerReferences: [{ ...SCHEDULE_RESOURCE, name, uid }],
    },
    spec: exportTemplate.spec,
  };
}

/** @returns the oldest finished exports beyond the limits */
function beyondHistory(exports: readonly ScheduledExport[], spec: DiskExportScheduleSpec): ScheduledExport[] {
  const limits = { Succeeded: spec.successfulExportsHistoryLimit, Failed: spec.failedExportsHistoryLimit } as const;
  return Object.entries(limits).flatMap(([result, limit]) =>
    exports
      .filter((each) => each.result === result && !each.isTerminating)
      .sort((a, b) => b.scheduledMs - a.scheduledMs || (a.name < b.name ? 1 : -1))
      .slice(limit),
  );
}

interface StatusFacts {
  active: readonly string[];
  lastScheduleMs: number | undefined;
  lastSuccessMs: number | undefined;
  nextMs: number | undefined;
}

function statusOf({ schedule }: Known, { active, lastScheduleMs, lastSuccessMs, nextMs }: StatusFacts): DiskExportScheduleStatus {
  const { generation } = schedule.metadata;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    active: active.toSorted().slice(0, MAX_ACTIVE),
    activeCount: active.length,
    ...(lastScheduleMs === undefined ? {} : { lastScheduleTime: timestamp(lastScheduleMs) }),
    ...(lastSuccessMs === undefined ? {} : { lastSuccessfulTime: timestamp(lastSuccessMs) }),
    ...(nextMs === undefined ? {} : { nextScheduleTime: timestamp(nextMs) }),
  };
}

function earliestWaitMs(times: readonly (number | undefined)[], nowMs: number): number | undefined {
  const waits = times.flatMap((timeMs) => (timeMs !== undefined && timeMs > nowMs ? [timeMs - nowMs] : []));
  return waits.length === 0 ? undefined : Math.min(...waits);
}
