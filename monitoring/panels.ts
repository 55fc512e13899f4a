/**
 * What the dashboard shows, as a table. A counter of one export begins with its first scrape at whatever it has reached by
 * then, which increase() does not see: what an export has done is its counter's highest value.
 */

import { chosen, type MetricName } from './expressions.ts';

interface PanelTarget {
  expr: string;
  /** Of a table: the title of the column of values. */
  legend: string;
  /** Of a column, where it is not the panel's. */
  unit?: string;
}

export interface Panel {
  kind: 'stat' | 'timeseries' | 'bars' | 'heatmap' | 'table';
  title: string;
  description: string;
  /** As Grafana names them: https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts */
  unit: string;
  /** Of the 24 columns of the grid. */
  width: number;
  targets: readonly PanelTarget[];
  /** Of the values' axis. */
  max?: number;
  /** What is shown where nothing has happened. */
  none?: string;
}

const RATE = '[$__rate_interval]';
const RANGE = '[$__range]';
const BY_EXPORT = 'sum by (export_namespace, export)';
const EXPORT = '{{export_namespace}}/{{export}}';

const rate = (name: MetricName, more?: string) => `rate(${chosen(name, more)}${RATE})`;

/** What has been done in the time that the dashboard shows, also by exports whose series are gone. */
const reached = (name: MetricName, more?: string) => `max_over_time(${chosen(name, more)}${RANGE})`;

export const ROWS: readonly { title: string; panels: readonly Panel[] }[] = [
  {
    title: 'Overview',
    panels: [
      {
        kind: 'stat',
        title: 'Running',
        description: 'Exports that run now, or have begun and wait for a disk in use.',
        unit: 'short',
        width: 4,
        targets: [{ expr: `sum(${chosen('exports_active')})`, legend: 'running' }],
      },
      {
        kind: 'stat',
        title: 'Waiting',
        description: 'Exports that wait for a slot, for a disk in use or for their next attempt, and exports that no process has claimed.',
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
        description: 'Exports that have ended in the time shown, by result.',
        unit: 'short',
        width: 4,
        targets: [{ expr: `round(sum by (result) (increase(${chosen('exports_total')}${RANGE})))`, legend: '{{result}}' }],
      },
      {
        kind: 'stat',
        title: 'Sent per second',
        description: 'Bytes of images that leave for all destinations.',
        unit: 'binBps',
        width: 4,
        targets: [{ expr: `sum(${rate('destination_sent_bytes_total')})`, legend: 'sent' }],
      },
      {
        kind: 'stat',
        title: 'Saved by sparseness',
        description: 'Share of the scanned clusters that were left out of the images, because they lie in holes or hold zeros only.',
        unit: 'percentunit',
        width: 4,
        targets: [{ expr: `sum(${reached('skipped_clusters_total')}) / sum(${reached('scanned_clusters_total')})`, legend: 'saved' }],
      },
      {
        kind: 'stat',
        title: 'Sidecars',
        description: 'Sidecars that answer, by version.',
        unit: 'short',
        width: 4,
        targets: [{ expr: `count by (version) (${chosen('build_info')})`, legend: '{{version}}' }],
      },
    ],
  },
  {
    title: 'Exports',
    panels: [
      {
        kind: 'timeseries',
        title: 'Running by sidecar',
        description: 'Exports that run or wait for a disk in use, by sidecar. Those that have not begun are not counted.',
        unit: 'short',
        width: 4,
        targets: [{ expr: `sum by (instance) (${chosen('exports_active')})`, legend: '{{instance}}' }],
      },
      {
        kind: 'bars',
        title: 'Ended by destination and result',
        description: 'Exports that have ended, in the interval of each bar.',
        unit: 'short',
        width: 5,
        none: 'none has ended',
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
        description: 'How long the exports took that have ended, waits and attempts that failed among it.',
        unit: 's',
        width: 5,
        targets: [{ expr: `sum by (le) (increase(${chosen('export_duration_seconds')}${RATE}))`, legend: '{{le}}' }],
      },
      {
        kind: 'bars',
        title: 'Sent by destination',
        description: 'Bytes of images that were sent in the interval of each bar, also by exports that fit between two scrapes.',
        unit: 'bytes',
        width: 5,
        none: 'nothing was sent',
        targets: [
          { expr: `sum by (destination) (increase(${chosen('destination_sent_bytes_total')}${RATE})) > 0`, legend: '{{destination}}' },
        ],
      },
      {
        kind: 'timeseries',
        title: 'Since last good export',
        description: 'Time since the last good export of each claim has ended. Claims of which none is known are left out.',
        unit: 's',
        width: 5,
        none: 'none is known',
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
        description: 'Bytes that are read from the disks: by the scan, to be sent, and to be verified.',
        unit: 'binBps',
        width: 6,
        targets: [{ expr: `${BY_EXPORT} (${rate('source_read_bytes_total')})`, legend: EXPORT }],
      },
      {
        kind: 'timeseries',
        title: 'Sent per second by export',
        description: 'Bytes of images that are sent, in all attempts.',
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
        description: 'Time since bytes of a disk were last scanned or sent, while it is scanned or sent. It grows where one hangs.',
        unit: 's',
        width: 6,
        none: 'nothing is under way',
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
        description: 'After one attempt, scanned is the sum of holes, zeros and data; more attempts write data again.',
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
        description: 'Clusters that are scanned, and clusters of data that are written, of all exports.',
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
        description: 'Exports that have failed in the time shown, when, and the reason that their condition Succeeded has.',
        unit: 'locale',
        width: 10,
        none: 'none has failed',
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
        description: 'Attempts that failed and were made again, in the interval of each bar.',
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
        title: 'Age of what is known of requests',
        description: 'Time since a sidecar last knew which requests there are. New ones are not seen while it grows.',
        unit: 's',
        width: 7,
        targets: [{ expr: `time() - max by (instance) (${chosen('watch_last_success_timestamp_seconds')})`, legend: '{{instance}}' }],
      },
    ],
  },
];
