/** Declares every metric of `disklift controller` once, as catalogue.ts has those of the sidecar. */

import type { Registry } from 'prom-client';
import { METRICS, type MetricDeclaration, type MetricsOf, register } from './catalogue.ts';

/** 5 ms to 30 s. */
const RECONCILE_BUCKETS_SECONDS = [0.005, 0.02, 0.1, 0.5, 2, 10, 30];

const SCHEDULE_LABELS = ['export_namespace', 'schedule'] as const;

export const CONTROLLER_METRICS = {
  leader: {
    type: 'gauge',
    name: 'controller_leader',
    help: '1 while this process leads, which one of several controllers does; else 0.',
    unit: '1',
    labels: [],
  },
  waiting: {
    type: 'gauge',
    name: 'controller_exports_waiting',
    help: 'Exports that wait for a slot. Only the leader has this series.',
    unit: 'exports',
    labels: [],
  },
  oldestWaiting: {
    type: 'gauge',
    name: 'controller_oldest_waiting_timestamp_seconds',
    help: 'Time in seconds since the epoch at which the oldest export that waits for a slot was created. The series exists only while one waits.',
    unit: 'seconds',
    labels: [],
  },
  held: {
    type: 'gauge',
    name: 'controller_exports_active',
    help: 'Exports that have a slot, from their first object until their last one is gone. Only the leader has this series.',
    unit: 'exports',
    labels: [],
  },
  jobs: {
    type: 'gauge',
    name: 'controller_jobs',
    help: 'Jobs of exports, by state. Only the leader has this series.',
    unit: 'jobs',
    labels: ['state'],
  },
  objects: {
    type: 'gauge',
    name: 'controller_objects',
    help: 'Objects that the controller has made for exports and that exist, by kind. Only the leader has this series.',
    unit: 'objects',
    labels: ['kind'],
  },
  leftovers: {
    type: 'gauge',
    name: 'controller_leftover_objects',
    help: 'Objects that exist although their export has ended or does not exist, by kind. Only the leader has this series.',
    unit: 'objects',
    labels: ['kind'],
  },
  reconcileDuration: {
    type: 'histogram',
    name: 'controller_reconcile_duration_seconds',
    help: 'Time that the controller took for one look at one export, with the calls of the API server.',
    unit: 'seconds',
    labels: [],
    buckets: RECONCILE_BUCKETS_SECONDS,
  },
  reconcileFailures: {
    type: 'counter',
    name: 'controller_reconcile_failures_total',
    help: 'Looks at an export that failed and are repeated, by reason.',
    unit: 'looks',
    labels: ['reason'],
  },
  apiFailures: {
    type: 'counter',
    name: 'controller_api_failures_total',
    help: 'Requests that the API server refused or did not answer, by reason, without those of the normal course such as conflicts.',
    unit: 'requests',
    labels: ['reason'],
  },
  warnings: {
    type: 'counter',
    name: 'controller_warnings_total',
    help: 'Events of type Warning that the controller has recorded for exports, by reason.',
    unit: 'events',
    labels: ['reason'],
  },
  scheduleLastSuccess: {
    type: 'gauge',
    name: 'schedule_last_success_timestamp_seconds',
    help: 'Time in seconds since the epoch at which an export of the DiskExportSchedule last succeeded. 0: none has.',
    unit: 'seconds',
    labels: SCHEDULE_LABELS,
  },
  scheduleNext: {
    type: 'gauge',
    name: 'schedule_next_timestamp_seconds',
    help: 'Time in seconds since the epoch of the next export. The series does not exist while the schedule is suspended or cannot be read.',
    unit: 'seconds',
    labels: SCHEDULE_LABELS,
  },
  scheduleOverdue: {
    type: 'gauge',
    name: 'schedule_overdue_timestamp_seconds',
    help: 'Time in seconds since the epoch at which the schedule becomes overdue, or became it, unless an export succeeds.',
    unit: 'seconds',
    labels: SCHEDULE_LABELS,
  },
  scheduleSuspended: {
    type: 'gauge',
    name: 'schedule_suspended',
    help: '1 while the schedule is suspended; else 0.',
    unit: '1',
    labels: SCHEDULE_LABELS,
  },
  watchLastSuccess: METRICS.watchLastSuccess,
  buildInfo: METRICS.buildInfo,
} as const satisfies Record<string, MetricDeclaration>;

export const JOB_STATES = ['Suspended', 'Pending', 'Running', 'Ended'] as const;

/** Reasons of failures of the controller's looks. InternalError is a fault of disklift itself. */
const RECONCILE_FAILURES = ['StoreUnavailable', 'StoreRefused', 'ExecutorLost', 'InternalError'] as const;

/** Reasons of the controller's warnings, with a section of docs/virtual-machines.md that says what to do. */
export const WARNING_REASONS = [
  ...['BackupEnded', 'BackupNotFound', 'BackupNotPull', 'BackupUnreadable'],
  ...['ClaimLost', 'ClaimNotFound', 'CloneFailed', 'ContainerFailed', 'CrashConsistent', 'DeadlineExceeded', 'ImagePullFailed'],
  ...['JobSuspended', 'NoDisks', 'PodRefused', 'QuotaExceeded', 'SnapshotClassNotFound', 'SnapshotClassRetains', 'SnapshotFailed'],
  ...['SnapshotNotFound', 'StoreRefused', 'Unschedulable', 'VirtualMachineNotFound', 'VolumeAttachFailed', 'VolumeMountFailed'],
  ...['VolumeNotExportable', 'VolumeNotFound', 'VolumesLeftOut', 'VolumesNotInSnapshot', 'WorkerFailed', 'WorkerLost'],
] as const;

/** Failures of requests that are no part of the normal course. */
export const API_FAILURES = ['Unauthorized', 'Forbidden', 'QuotaExceeded', 'Invalid', 'Throttled', 'TooLarge', 'Unavailable'] as const;

export type ControllerMetricSet = MetricsOf<typeof CONTROLLER_METRICS>;

/** Creates a registry with every metric of the controller. */
export function createControllerRegistry(): { registry: Registry; metrics: ControllerMetricSet } {
  const { registry, metrics } = register(CONTROLLER_METRICS);
  metrics.leader.set(0);
  for (const reason of RECONCILE_FAILURES) metrics.reconcileFailures.inc({ reason }, 0);
  for (const reason of WARNING_REASONS) metrics.warnings.inc({ reason }, 0);
  for (const reason of API_FAILURES) metrics.apiFailures.inc({ reason }, 0);
  return { registry, metrics };
}
