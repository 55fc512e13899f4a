/** Recording rules and alerts for Prometheus, as data. The rule files come from them; tests use faster rules. */

import { metric } from './expressions.ts';

/** Start of each link to the operations page; the chart's value `prometheusRule.runbook` replaces it. */
export const RUNBOOK = 'docs/operations.md';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Bytes per second that an export sends. An export is compared with the history of this series. */
const SENT_RATE = 'export:disklift_sent_bytes:rate5m';

/** One hour of sending, with one evaluation per minute. */
const ENOUGH_HISTORY_SAMPLES = 60;

export interface RecordingRule {
  record: string;
  expr: string;
}

export interface AlertRule {
  alert: string;
  expr: string;
  /** Time for which the expression must be true; when absent, the alert fires at once. */
  for?: string;
  labels: { severity: 'warning' | 'critical' };
  annotations: { summary: string; description: string; runbook_url: string };
}

export interface RuleOptions {
  /** Divisor of every duration, for tests: 60 turns minutes into seconds. Default: 1. */
  speedup?: number;
}

/** Interval at which Prometheus evaluates the rules. */
export function ruleInterval({ speedup = 1 }: RuleOptions): string {
  return duration(MINUTE / speedup);
}

const UNITS_MS = [
  ['w', 7 * DAY * 1000],
  ['d', DAY * 1000],
  ['h', HOUR * 1000],
  ['m', MINUTE * 1000],
  ['s', 1000],
] as const;

/** A duration in Prometheus' notation, in the largest unit without a fraction. */
function duration(seconds: number): string {
  const ms = Math.round(seconds * 1000);
  const [unit, unitMs] = UNITS_MS.find(([, length]) => ms % length === 0) ?? ['ms', 1];
  return `${ms / unitMs}${unit}`;
}

/** @param name of the alert without its prefix; the operations page has a section of that name */
function runbookOf(name: string): string {
  return `${RUNBOOK}#disklift${name.toLowerCase()}`;
}

/** Kinds that use storage while they exist. */
const COSTLY_KINDS = 'PersistentVolumeClaim|VolumeSnapshot|VirtualMachineSnapshot';

const EXPORT = '{{ $labels.export_namespace }}/{{ $labels.export }}';

export function recordingRules({ speedup = 1 }: RuleOptions): RecordingRule[] {
  const range = duration((5 * MINUTE) / speedup);
  // Only while bytes are sent: a scan or a wait is not a slow transfer.
  const expr = `sum by (job, export_namespace, export) (rate(${metric('sent_bytes_total')}[${range}])) > 0`;
  return [{ record: SENT_RATE, expr }];
}

export function alertRules(options: RuleOptions): AlertRule[] {
  return [...exportRules(options), ...controllerRules(options)];
}

function toolsOf({ speedup = 1 }: RuleOptions) {
  const seconds = (value: number) => value / speedup;
  return {
    seconds,
    of: (value: number) => duration(seconds(value)),
    rule(name: string, { severity, ...facts }: Omit<AlertRule, 'alert' | 'labels' | 'annotations'> & Facts): AlertRule {
      const { summary, description, ...rest } = facts;
      return {
        alert: `Disklift${name}`,
        ...rest,
        labels: { severity },
        annotations: { summary, description, runbook_url: runbookOf(name) },
      };
    },
  };
}

function exportRules(options: RuleOptions): AlertRule[] {
  const { seconds, of, rule } = toolsOf(options);
  return [
    rule('ExportFailed', {
      // The series stays for `seriesRetentionSeconds` after the export's end.
      expr: `${metric('export_end_timestamp_seconds')}{result="Failed"} > 0`,
      severity: 'warning',
      summary: `The export ${EXPORT} has failed: {{ $labels.reason }}.`,
      description: 'disklift does not try it again. The status of the DiskExport names the disk and the remedy.',
    }),
    rule('ExportStalled', {
      expr: `time() - ${metric('export_last_progress_timestamp_seconds')} > ${seconds(10 * MINUTE)}`,
      for: of(MINUTE),
      severity: 'warning',
      summary: `The export ${EXPORT} makes no progress.`,
      description: 'No byte of its disk {{ $labels.disk }} was scanned or sent for {{ $value | humanizeDuration }}.',
    }),
    rule('ExportSlow', {
      expr: [
        `${SENT_RATE} < 0.25 * quantile_over_time(0.5, ${SENT_RATE}[${of(7 * DAY)}])`,
        `and count_over_time(${SENT_RATE}[${of(7 * DAY)}]) > ${ENOUGH_HISTORY_SAMPLES}`,
      ].join('\n'),
      for: of(15 * MINUTE),
      severity: 'warning',
      summary: `The export ${EXPORT} is slow.`,
      description: 'It sends {{ $value | humanize1024 }}B/s, less than a quarter of its median rate in the last week.',
    }),
    rule('RetriesHigh', {
      expr: `sum by (job, destination, reason) (increase(${metric('retries_total')}[${of(30 * MINUTE)}])) > 5`,
      severity: 'warning',
      summary: 'Exports to {{ $labels.destination }} destinations fail repeatedly: {{ $labels.reason }}.',
      description: '{{ $value | printf "%.0f" }} attempts failed and were retried in the last half hour.',
    }),
    rule('FellBackToFull', {
      expr: `sum by (job, destination, reason) (increase(${metric('images_total')}{type="Full",reason!="FirstImage"}[${of(HOUR)}])) > 0`,
      severity: 'warning',
      summary: 'Incremental exports to {{ $labels.destination }} destinations have made full images: {{ $labels.reason }}.',
      description:
        '{{ $value | printf "%.0f" }} images of the last hour hold whole disks. The condition Incremental of each export names the disk.',
    }),
    rule('ClaimOverdue', {
      // 26 hours: a daily export may take two hours longer than the day before.
      // A claim that was served for less time is not overdue.
      expr: [
        `time() - max by (export_namespace, claim) (max_over_time(${metric('last_success_timestamp_seconds')}[${of(7 * DAY)}])) > ${seconds(26 * HOUR)}`,
        'and on (export_namespace, claim)',
        `max by (export_namespace, claim) (max_over_time(${metric('last_success_timestamp_seconds')}[${of(7 * DAY)}] offset ${of(26 * HOUR)})) >= 0`,
      ].join('\n'),
      for: of(5 * MINUTE),
      severity: 'warning',
      summary: 'The claim {{ $labels.export_namespace }}/{{ $labels.claim }} has had no successful export for 26 hours.',
      description:
        '{{ if gt $value 1e9 }}No successful export of it is recorded.{{ else }}The last successful export ended {{ $value | humanizeDuration }} ago.{{ end }}',
    }),
    rule('WatchStale', {
      expr: `time() - ${metric('watch_last_success_timestamp_seconds')} > ${seconds(5 * MINUTE)}`,
      for: of(2 * MINUTE),
      severity: 'critical',
      summary: 'A sidecar or controller cannot read its DiskExports.',
      description: '{{ $labels.instance }} sees no new, cancelled or deleted requests.',
    }),
    rule('TargetDown', {
      expr: 'up{job=~".*disklift.*"} == 0',
      for: of(5 * MINUTE),
      severity: 'critical',
      summary: 'Prometheus cannot scrape a sidecar or controller.',
      description: '{{ $labels.instance }} returns no metrics: it is down, or Prometheus cannot reach it.',
    }),
  ];
}

function controllerRules(options: RuleOptions): AlertRule[] {
  const { seconds, of, rule } = toolsOf(options);
  return [
    rule('ControllerNoLeader', {
      // Without any process there is no series; the day before shows that there should be one.
      expr: [
        `(max by (job) (${metric('controller_leader')})`,
        `or max by (job) (0 * max_over_time(${metric('controller_leader')}[${of(DAY)}]))) == 0`,
      ].join('\n'),
      for: of(5 * MINUTE),
      severity: 'critical',
      summary: 'No controller leads.',
      description: 'No export of {{ $labels.job }} begins, and no snapshot of an ended export is removed.',
    }),
    rule('ExportsWaitTooLong', {
      expr: `time() - min by (job) (${metric('controller_oldest_waiting_timestamp_seconds')}) > ${seconds(6 * HOUR)}`,
      for: of(5 * MINUTE),
      severity: 'warning',
      summary: 'Exports wait too long for a slot.',
      description: 'The oldest one of {{ $labels.job }} was created {{ $value | humanizeDuration }} ago.',
    }),
    rule('SnapshotsLeftBehind', {
      expr: `sum by (job, kind) (${metric('controller_leftover_objects')}{kind=~"${COSTLY_KINDS}"}) > 0`,
      for: of(30 * MINUTE),
      severity: 'warning',
      summary: 'Objects of ended exports are not removed: {{ $labels.kind }}.',
      description: '{{ $value | printf "%.0f" }} of them use storage although their exports have ended.',
    }),
    rule('ControllerFailing', {
      expr: `sum by (job, reason) (increase(${metric('controller_reconcile_failures_total')}[${of(30 * MINUTE)}])) > 20`,
      for: of(15 * MINUTE),
      severity: 'warning',
      summary: 'The controller fails repeatedly: {{ $labels.reason }}.',
      description: '{{ $value | printf "%.0f" }} of its looks at exports have failed in the last half hour.',
    }),
    rule('ScheduleOverdue', {
      // Two controllers may report a schedule for a moment, when another one begins to lead.
      expr: `time() - max by (export_namespace, schedule) (${metric('schedule_overdue_timestamp_seconds')}) > 0`,
      for: of(5 * MINUTE),
      severity: 'warning',
      summary: 'The schedule {{ $labels.export_namespace }}/{{ $labels.schedule }} has no export that is young enough.',
      description: 'It is overdue for {{ $value | humanizeDuration }}. The conditions of the DiskExportSchedule have the reason.',
    }),
  ];
}

interface Facts {
  severity: AlertRule['labels']['severity'];
  summary: string;
  description: string;
}
