/**
 * The panels of the dashboard, as a table. At its first scrape the counter of an export is already above 0, and
 * increase() omits that part. The panels therefore use the highest value of such a counter.
 */

import { CONTROLLER_ROWS } from './controller-panels.ts';
import { chosen, type MetricName } from './expressions.ts';
import { INCREMENTAL_ROW } from './incremental-panels.ts';
import type { Row } from './row.ts';

const RATE = '[$__rate_interval]';
const RANGE = '[$__range]';
const BY_EXPORT = 'sum by (export_namespace, export)';
const EXPORT = '{{export_namespace}}/{{export}}';

const rate = (name: MetricName, more?: string) => `rate(${chosen(name, more)}${RATE})`;

/** The highest value in the time range of the dashboard, which includes exports whose series have ended. */
const reached = (name: MetricName, more?: string) => `max_over_time(${chosen(name, more)}${RANGE})`;

export const ROWS: readonly Row[] = [
  {
    title: 'Overview',
    panels: [
      {
        kind: 'stat',
        title: 'Running',
        description: 'Exports that run now, or that have begun and wait for a disk in use.',
        unit: 'short',
        width: 4,
        targets: [{ expr: `sum(${chosen('exports_active')})`, legend: 'running' }],
      },
      {
        kind: 'stat',
        title: 'Waiting',
        description:
          'Waiting: exports that wait for a slot, for a disk in use or for their next attempt. Unclaimed: exports that no process has claimed.',
        unit: 'short',
        width: 4,
        targets: [
          { expr: `sum(${chosen('exports_pending')})`, legend: 'waiting' },
          { expr: `max(${chosen('exports_unclaimed')})`, legend: 'unclaimed' },
        ],
      },
      {
        kind: 'stat',
        title: 'Ended',
        description: 'Exports that ended in the time range, by result.',
        unit: 'short',
        width: 4,
        targets: [{ expr: `round(sum by (result) (increase(${chosen('exports_total')}${RANGE})))`, legend: '{{result}}' }],
      },
      {
        kind: 'stat',
        title: 'Sent per second',
        description: 'Bytes of images that all exports send, to all destinations.',
        unit: 'binBps',
        width: 4,
        targets: [{ expr: `sum(${rate('destination_sent_bytes_total')})`, legend: 'sent' }],
      },
      {
        kind: 'stat',
        title: 'Saved by sparseness',
        description: 'Share of the scanned clusters that are not in the images, because they lie in holes or hold only zeros.',
        unit: 'percentunit',
        width: 4,
        targets: [{ expr: `sum(${reached('skipped_clusters_total')}) / sum(${reached('scanned_clusters_total')})`, legend: 'saved' }],
      },
      {
        kind: 'stat',
        title: 'Sidecars',
        description: 'Sidecars and pods of exports that Prometheus can scrape, by version.',
        unit: 'short',
        width: 4,
        targets: [
          {
            expr: `count by (version) (${chosen('build_info')} unless on (job, instance) ${chosen('controller_leader')})`,
            legend: '{{version}}',
          },
        ],
      },
    ],
  },
  {
    title: 'Exports',
    panels: [
      {
        kind: 'timeseries',
        title: 'Running by sidecar',
        description: 'Exports that run or wait for a disk in use, by sidecar. Exports that have not begun are not counted.',
        unit: 'short',
        width: 4,
        targets: [{ expr: `sum by (instance) (${chosen('exports_active')})`, legend: '{{instance}}' }],
      },
      {
        kind: 'bars',
        title: 'Ended by destination and result',
        description: 'Exports that ended in the interval of each bar.',
        unit: 'short',
        width: 5,
        none: 'no export has ended',
        targets: [
          {
            expr: `round(sum by (destination, result) (increase(${chosen('exports_total')}${RATE}))) > 0`,
            legend: '{{destination}} {{result}}',
          },
        ],
      },
      {
        kind: 'heatmap',
        title: 'Duration',
        description: 'Durations of exports that ended, including waits and failed attempts.',
        unit: 's',
        width: 5,
        targets: [{ expr: `sum by (le) (increase(${chosen('export_duration_seconds')}${RATE}))`, legend: '{{le}}' }],
      },
      {
        kind: 'bars',
        title: 'Sent by destination',
        description:
          'Bytes of images that were sent in the interval of each bar, including exports that began and ended between two scrapes.',
        unit: 'bytes',
        width: 5,
        none: 'nothing was sent',
        targets: [
          { expr: `sum by (destination) (increase(${chosen('destination_sent_bytes_total')}${RATE})) > 0`, legend: '{{destination}}' },
        ],
      },
      {
        kind: 'timeseries',
        title: 'Since last success',
        description: 'Time since the last successful export of each claim ended. Claims without a successful export are not shown.',
        unit: 's',
        width: 5,
        none: 'no success yet',
        targets: [
          {
            expr: `time() - (max by (export_namespace, claim) (${chosen('last_success_timestamp_seconds')}) > 0)`,
            legend: '{{export_namespace}}/{{claim}}',
          },
        ],
      },
    ],
  },
  {
    title: 'Transfer',
    panels: [
      {
        kind: 'timeseries',
        title: 'Read per second by export',
        description: 'Bytes that are read from the disks: for the scan, to send them, and to verify them.',
        unit: 'binBps',
        width: 6,
        targets: [{ expr: `${BY_EXPORT} (${rate('source_read_bytes_total')})`, legend: EXPORT }],
      },
      {
        kind: 'timeseries',
        title: 'Sent per second by export',
        description: 'Bytes of images that each export sends, in all attempts.',
        unit: 'binBps',
        width: 6,
        targets: [{ expr: `${BY_EXPORT} (${rate('sent_bytes_total')})`, legend: EXPORT }],
      },
      {
        kind: 'timeseries',
        title: 'Progress',
        description: 'Share of the image that the current attempt has sent.',
        unit: 'percentunit',
        width: 6,
        max: 1,
        targets: [{ expr: `max by (export_namespace, export, disk) (${chosen('export_progress_ratio')})`, legend: `${EXPORT} {{disk}}` }],
      },
      {
        kind: 'timeseries',
        title: 'Since last progress',
        description: 'Time since bytes of a disk were last scanned or sent. It grows while the storage or the destination hangs.',
        unit: 's',
        width: 6,
        none: 'no disk is scanned or sent',
        targets: [
          {
            expr: `time() - max by (export_namespace, export, disk) (${chosen('export_last_progress_timestamp_seconds')})`,
            legend: `${EXPORT} {{disk}}`,
          },
        ],
      },
    ],
  },
  {
    title: 'Clusters',
    panels: [
      {
        kind: 'table',
        title: 'Clusters by export',
        description: 'After one attempt, scanned is the sum of holes, zeros and data. Each further attempt writes data again.',
        unit: 'locale',
        width: 16,
        none: 'no exports',
        targets: [
          { expr: `${BY_EXPORT} (${reached('scanned_clusters_total')})`, legend: 'scanned' },
          { expr: `${BY_EXPORT} (${reached('skipped_clusters_total', 'reason="hole"')})`, legend: 'skipped: holes' },
          { expr: `${BY_EXPORT} (${reached('skipped_clusters_total', 'reason="zero"')})`, legend: 'skipped: zeros' },
          { expr: `${BY_EXPORT} (${reached('written_clusters_total', 'kind="data"')})`, legend: 'written: data' },
          { expr: `${BY_EXPORT} (${reached('written_clusters_total', 'kind="metadata"')})`, legend: 'written: metadata' },
          {
            expr: `${BY_EXPORT} (${reached('skipped_clusters_total')}) / ${BY_EXPORT} (${reached('scanned_clusters_total')})`,
            legend: 'saved',
            unit: 'percentunit',
          },
        ],
      },
      {
        kind: 'timeseries',
        title: 'Clusters per second',
        description: 'Clusters that all exports scan, and clusters of data that they write.',
        unit: 'cps',
        width: 8,
        targets: [
          { expr: `sum(${rate('destination_scanned_clusters_total')})`, legend: 'scanned' },
          { expr: `sum(${rate('destination_written_clusters_total', 'kind="data"')})`, legend: 'written' },
        ],
      },
    ],
  },
  {
    title: 'Failures',
    panels: [
      {
        kind: 'table',
        title: 'Failed exports',
        description: 'Exports that failed in the time range, the time of the failure, and the reason of the condition Succeeded.',
        unit: 'locale',
        width: 10,
        none: 'no export has failed',
        targets: [
          {
            expr: `1000 * max by (export_namespace, export, destination, reason) (${reached('export_end_timestamp_seconds', 'result="Failed"')})`,
            legend: 'failed at',
            unit: 'dateTimeAsIso',
          },
        ],
      },
      {
        kind: 'bars',
        title: 'Retries by reason',
        description: 'Attempts that failed and were retried, in the interval of each bar.',
        unit: 'short',
        width: 7,
        none: 'no retries',
        targets: [
          {
            expr: `round(sum by (destination, reason) (increase(${chosen('retries_total')}${RATE}))) > 0`,
            legend: '{{destination}} {{reason}}',
          },
        ],
      },
      {
        kind: 'timeseries',
        title: 'Age of the list of requests',
        description: 'Time since the list of requests in a process was last up to date. While it grows, the process sees no new requests.',
        unit: 's',
        width: 7,
        targets: [{ expr: `time() - max by (instance) (${chosen('watch_last_success_timestamp_seconds')})`, legend: '{{instance}}' }],
      },
    ],
  },
  INCREMENTAL_ROW,
  ...CONTROLLER_ROWS,
];
