/** The panels of the controller. Only the leader has the series of the fleet, so sums count nothing twice. */

import { chosen } from './expressions.ts';
import type { Row } from './row.ts';

const BY_SCHEDULE = 'max by (export_namespace, schedule)';

const RATE = '[$__rate_interval]';

const CONTROLLER: Row = {
  title: 'Controller',
  panels: [
    {
      kind: 'stat',
      title: 'Leaders',
      description: 'Controllers that lead: one for each installation. 0: no export of the controller begins or ends.',
      unit: 'short',
      width: 6,
      targets: [{ expr: `sum(${chosen('controller_leader')})`, legend: 'leaders' }],
    },
    {
      kind: 'stat',
      title: 'Slots',
      description: 'Active: exports that have a slot, for a snapshot, a Job or their removal. Waiting: exports that wait for a slot.',
      unit: 'short',
      width: 6,
      targets: [
        { expr: `sum(${chosen('controller_exports_active')})`, legend: 'active' },
        { expr: `sum(${chosen('controller_exports_waiting')})`, legend: 'waiting' },
      ],
    },
    {
      kind: 'stat',
      title: 'Oldest waiting',
      description: 'Age of the oldest export that waits for a slot.',
      unit: 's',
      width: 6,
      none: 'none waits',
      targets: [{ expr: `time() - min(${chosen('controller_oldest_waiting_timestamp_seconds')})`, legend: 'age' }],
    },
    {
      kind: 'stat',
      title: 'Left behind',
      description: 'Objects that exist although their export has ended or does not exist. The controller is removing them, or cannot.',
      unit: 'short',
      width: 6,
      targets: [{ expr: `sum(${chosen('controller_leftover_objects')})`, legend: 'objects' }],
    },
    {
      kind: 'timeseries',
      title: 'Jobs by state',
      description: 'Jobs of exports. Pending: no pod runs yet. Suspended: a queue of the cluster, such as Kueue, holds the Job back.',
      unit: 'short',
      width: 8,
      targets: [{ expr: `sum by (state) (${chosen('controller_jobs')})`, legend: '{{state}}' }],
    },
    {
      kind: 'timeseries',
      title: 'Objects of exports',
      description:
        'Objects that the controller has made for exports and that exist, by kind. A PersistentVolumeClaim is the clone of a snapshot.',
      unit: 'short',
      width: 8,
      targets: [{ expr: `sum by (kind) (${chosen('controller_objects')})`, legend: '{{kind}}' }],
    },
    {
      kind: 'heatmap',
      title: 'Duration of looks',
      description: 'Time that the controller took for each look at an export, with the calls of the API server.',
      unit: 's',
      width: 8,
      targets: [{ expr: `sum by (le) (increase(${chosen('controller_reconcile_duration_seconds')}${RATE}))`, legend: '{{le}}' }],
    },
    {
      kind: 'bars',
      title: 'Warnings by reason',
      description: 'Events of type Warning that the controller recorded for exports, in the interval of each bar.',
      unit: 'short',
      width: 8,
      none: 'no warnings',
      targets: [{ expr: `round(sum by (reason) (increase(${chosen('controller_warnings_total')}${RATE}))) > 0`, legend: '{{reason}}' }],
    },
    {
      kind: 'bars',
      title: 'Failed looks by reason',
      description: 'Looks of the controller at an export that failed and are repeated, in the interval of each bar.',
      unit: 'short',
      width: 8,
      none: 'no failures',
      targets: [
        { expr: `round(sum by (reason) (increase(${chosen('controller_reconcile_failures_total')}${RATE}))) > 0`, legend: '{{reason}}' },
      ],
    },
    {
      kind: 'bars',
      title: 'Refusals of the API server',
      description: 'Requests of the controller that the API server refused or did not answer, in the interval of each bar.',
      unit: 'short',
      width: 8,
      none: 'no refusals',
      targets: [{ expr: `round(sum by (reason) (increase(${chosen('controller_api_failures_total')}${RATE}))) > 0`, legend: '{{reason}}' }],
    },
  ],
};

const SCHEDULES: Row = {
  title: 'Schedules',
  panels: [
    {
      kind: 'table',
      title: 'Schedules',
      description: 'The last success of each DiskExportSchedule, its next run, and the time at which it becomes overdue without a success.',
      unit: 'dateTimeAsIso',
      width: 16,
      none: 'no schedules',
      targets: [
        { expr: `1000 * (${BY_SCHEDULE} (${chosen('schedule_last_success_timestamp_seconds')}) > 0)`, legend: 'last success' },
        { expr: `1000 * ${BY_SCHEDULE} (${chosen('schedule_next_timestamp_seconds')})`, legend: 'next run' },
        { expr: `1000 * ${BY_SCHEDULE} (${chosen('schedule_overdue_timestamp_seconds')})`, legend: 'overdue at' },
        { expr: `${BY_SCHEDULE} (${chosen('schedule_suspended')})`, legend: 'suspended', unit: 'short' },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Since last success by schedule',
      description: 'Time since an export of each schedule last succeeded. Schedules without a success are not shown.',
      unit: 's',
      width: 8,
      none: 'no success yet',
      targets: [
        {
          expr: `time() - (${BY_SCHEDULE} (${chosen('schedule_last_success_timestamp_seconds')}) > 0)`,
          legend: '{{export_namespace}}/{{schedule}}',
        },
      ],
    },
  ],
};

export const CONTROLLER_ROWS: readonly Row[] = [CONTROLLER, SCHEDULES];
