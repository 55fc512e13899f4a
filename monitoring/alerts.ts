/** What Prometheus records and alerts about, as data: the rule files are made from it, and tests make faster ones. */

import { metric } from './expressions.ts';

/** Where a link to the operations page begins; the chart's value `prometheusRule.runbook` takes its place. */
export const RUNBOOK = 'docs/operations.md';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Bytes that an export sends per second: its history is what it is compared with. */
const SENT_RATE = 'export:disklift_sent_bytes:rate5m';

/** An hour of sending, at an evaluation a minute. */
const ENOUGH_HISTORY_SAMPLES = 60;

export interface RecordingRule {
  record: string;
  expr: string;
}

export interface AlertRule {
  alert: string;
  expr: string;
  /** How long it must hold; at once when left out. */
  for?: string;
  labels: { severity: 'warning' | 'critical' };
  annotations: { summary: string; description: string; runbook_url: string };
}

export interface RuleOptions {
  /** Every duration is divided by it: 60 makes minutes seconds. For tests; 1 when left out. */
  speedup?: number;
}

/** How often the rules are looked at. */
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

/** As Prometheus writes it, in the largest unit that needs no fraction. */
function duration(seconds: number): string {
  const ms = Math.round(seconds * 1000);
  const [unit, unitMs] = UNITS_MS.find(([, length]) => ms % length === 0) ?? ['ms', 1];
  return `${ms / unitMs}${unit}`;
}

/** @param name of the alert without its prefix, from which the section of the operations page follows */
function runbookOf(name: string): string {
  return `${RUNBOOK}#disklift${name.toLowerCase()}`;
}

const EXPORT = '{{ $labels.export_namespace }}/{{ $labels.export }}';

export function recordingRules({ speedup = 1 }: RuleOptions): RecordingRule[] {
  const range = duration((5 * MINUTE) / speedup);
  // Only while something is sent: a scan and a wait are no slow transfer.
  const expr = `sum by (job, export_namespace, export) (rate(${metric('sent_bytes_total')}[${range}])) > 0`;
  return [{ record: SENT_RATE, expr }];
}

export function alertRules({ speedup = 1 }: RuleOptions): AlertRule[] {
  const seconds = (value: number) => value / speedup;
  const of = (value: number) => duration(seconds(value));

  function rule(name: string, { severity, ...facts }: Omit<AlertRule, 'alert' | 'labels' | 'annotations'> & Facts): AlertRule {
    const { summary, description, ...rest } = facts;
    return {
      alert: `Disklift${name}`,
      ...rest,
      labels: { severity },
      annotations: { summary, description, runbook_url: runbookOf(name) },
    };
  }

  return [
    rule('ExportFailed', {
      // There for as long as the series of an export are kept when it has ended.
      expr: `${metric('export_end_timestamp_seconds')}{result="Failed"} > 0`,
      severity: 'warning',
      summary: `The export ${EXPORT} has failed: {{ $labels.reason }}.`,
      description: 'It will not be tried again by itself. Its status says which disk, and what to do.',
    }),
    rule('ExportStalled', {
      expr: `time() - ${metric('export_last_progress_timestamp_seconds')} > ${seconds(10 * MINUTE)}`,
      for: of(MINUTE),
      severity: 'warning',
      summary: `The export ${EXPORT} stands still.`,
      description: 'Nothing of its disk {{ $labels.disk }} was scanned or sent for {{ $value | humanizeDuration }}.',
    }),
    rule('ExportSlow', {
      expr: [
        `${SENT_RATE} < 0.25 * quantile_over_time(0.5, ${SENT_RATE}[${of(7 * DAY)}])`,
        `and count_over_time(${SENT_RATE}[${of(7 * DAY)}]) > ${ENOUGH_HISTORY_SAMPLES}`,
      ].join('\n'),
      for: of(15 * MINUTE),
      severity: 'warning',
      summary: `The export ${EXPORT} is slow.`,
      description: 'It sends {{ $value | humanize1024 }}B/s, less than a quarter of the median of its last week.',
    }),
    rule('RetriesHigh', {
      expr: `sum by (job, destination, reason) (increase(${metric('retries_total')}[${of(30 * MINUTE)}])) > 5`,
      severity: 'warning',
      summary: 'Attempts to export by {{ $labels.destination }} fail again and again: {{ $labels.reason }}.',
      description: '{{ $value | printf "%.0f" }} attempts of the last half hour failed and were made again.',
    }),
    rule('ClaimOverdue', {
      // A day's export that takes two hours longer is not overdue. A claim that is served for less time cannot be.
      expr: [
        `time() - max by (export_namespace, claim) (max_over_time(${metric('last_success_timestamp_seconds')}[${of(7 * DAY)}])) > ${seconds(26 * HOUR)}`,
        'and on (export_namespace, claim)',
        `max by (export_namespace, claim) (max_over_time(${metric('last_success_timestamp_seconds')}[${of(7 * DAY)}] offset ${of(26 * HOUR)})) >= 0`,
      ].join('\n'),
      for: of(5 * MINUTE),
      severity: 'warning',
      summary: 'The claim {{ $labels.export_namespace }}/{{ $labels.claim }} has had no good export for 26 hours.',
      description:
        '{{ if gt $value 1e9 }}No export of it is known to have succeeded.{{ else }}The last one ended {{ $value | humanizeDuration }} ago.{{ end }}',
    }),
    rule('WatchStale', {
      expr: `time() - ${metric('watch_last_success_timestamp_seconds')} > ${seconds(5 * MINUTE)}`,
      for: of(2 * MINUTE),
      severity: 'critical',
      summary: 'A sidecar does not know which exports are asked for.',
      description: '{{ $labels.instance }} sees no new requests, and no cancelled ones.',
    }),
    rule('TargetDown', {
      expr: 'up{job=~".*disklift.*"} == 0',
      for: of(5 * MINUTE),
      severity: 'critical',
      summary: 'A sidecar cannot be scraped.',
      description: '{{ $labels.instance }} gives no metrics: it is down, or cannot be reached from Prometheus.',
    }),
  ];
}

interface Facts {
  severity: AlertRule['labels']['severity'];
  summary: string;
  description: string;
}
