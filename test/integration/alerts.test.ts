/** The alerts in promtool: each fires when it should, with the right text, and is silent otherwise. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { type AlertRule, alertRules, RUNBOOK, recordingRules } from '../../monitoring/alerts.ts';
import { METRIC_PREFIX, METRICS, type MetricDeclaration } from '../../src/metrics/catalogue.ts';
import { CONTROLLER_METRICS } from '../../src/metrics/controller-catalogue.ts';
import { type HelmTools, helmTools } from '../helpers/helm-tools.ts';
import { selectorsOf } from '../helpers/promql.ts';
import { runCommand } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { CHART_RULES_FILE, DASHBOARD_FILE, RULES_FILE } from '../tools/generate-monitoring.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

interface RuleGroups {
  groups: { name: string; rules: object[] }[];
}

interface Scene {
  title: string;
  /** Series in promtool's notation: a value each minute. */
  series: Record<string, string>;
  /** The alerts that fire, by minute. No other alert may fire. */
  at: Record<string, { labels: string; summary: string; description: string } | 'silent'>;
}

const CONTROLLER = 'job="backup/nightly-disklift",instance="10.0.0.9:9474"';
const STANDBY = 'job="backup/nightly-disklift",instance="10.0.0.8:9474"';
const SIDECAR = 'job="vms/disklift",instance="10.0.0.7:9474"';
const EXPORT = `export_namespace="vms",export="nightly"`;
const SCHEDULE = 'export_namespace="vms",schedule="nightly"';

const SCENES: Record<string, Scene[]> = {
  ExportFailed: [
    {
      title: 'an export has failed, until its series end',
      series: {
        [`disklift_export_end_timestamp_seconds{${SIDECAR},${EXPORT},destination="S3",result="Failed",reason="SourceChanged"}`]:
          '_x2 120x15 stale',
      },
      at: {
        '1m': 'silent',
        '2m': {
          labels: `${SIDECAR},${EXPORT},destination="S3",result="Failed",reason="SourceChanged"`,
          summary: 'The export vms/nightly has failed: SourceChanged.',
          description: 'disklift does not try it again. The status of the DiskExport names the disk and the remedy.',
        },
        '20m': 'silent',
      },
    },
    {
      title: 'exports have ended without a failure',
      series: {
        [`disklift_export_end_timestamp_seconds{${SIDECAR},${EXPORT},destination="S3",result="Succeeded",reason="Completed"}`]: '60x9',
        [`disklift_export_end_timestamp_seconds{${SIDECAR},${EXPORT},destination="S3",result="Cancelled",reason="Cancelled"}`]: '60x9',
      },
      at: { '5m': 'silent' },
    },
  ],
  ExportStalled: [
    {
      title: 'a disk has made no progress for more than ten minutes',
      series: { [`disklift_export_last_progress_timestamp_seconds{${SIDECAR},${EXPORT},disk="a.img"}`]: '60x20' },
      at: {
        '12m': 'silent',
        '13m': {
          labels: `${SIDECAR},${EXPORT},disk="a.img"`,
          summary: 'The export vms/nightly makes no progress.',
          description: 'No byte of its disk a.img was scanned or sent for 12m 0s.',
        },
      },
    },
    {
      title: 'a disk makes progress now and then',
      series: { [`disklift_export_last_progress_timestamp_seconds{${SIDECAR},${EXPORT},disk="a.img"}`]: '0x8 480x8 960x8 1440x8' },
      at: { '8m': 'silent', '16m': 'silent', '30m': 'silent' },
    },
    {
      title: 'a stalled disk has ended',
      series: { [`disklift_export_last_progress_timestamp_seconds{${SIDECAR},${EXPORT},disk="a.img"}`]: '60x13 stale' },
      at: { '20m': 'silent' },
    },
  ],
  ExportSlow: [
    {
      title: 'an export sends at a tenth of its earlier rate',
      series: { [`disklift_sent_bytes_total{${SIDECAR},${EXPORT},disk="a.img"}`]: '0+6291456000x80 503945625600+629145600x40' },
      at: {
        '95m': 'silent',
        '105m': {
          labels: `job="vms/disklift",${EXPORT}`,
          summary: 'The export vms/nightly is slow.',
          description: 'It sends 10MiB/s, less than a quarter of its median rate in the last week.',
        },
      },
    },
    {
      title: 'an export sends at half of its earlier rate',
      series: { [`disklift_sent_bytes_total{${SIDECAR},${EXPORT},disk="a.img"}`]: '0+6291456000x80 506462208000+3145728000x40' },
      at: { '105m': 'silent' },
    },
    {
      title: 'an export was never faster',
      series: { [`disklift_sent_bytes_total{${SIDECAR},${EXPORT},disk="a.img"}`]: '0+60000x120' },
      at: { '105m': 'silent' },
    },
    {
      title: 'an export has ended',
      series: { [`disklift_sent_bytes_total{${SIDECAR},${EXPORT},disk="a.img"}`]: '0+6291456000x80 503316480000x15 stale' },
      at: { '85m': 'silent', '90m': 'silent', '105m': 'silent' },
    },
  ],
  RetriesHigh: [
    {
      title: 'attempts fail again and again',
      series: {
        [`disklift_retries_total{${SIDECAR},destination="HTTP",reason="DestinationUnreachable"}`]: '0+1x8 8x40',
        [`disklift_retries_total{${SIDECAR},destination="S3",reason="SourceReadError"}`]: '0x40',
      },
      at: {
        '5m': 'silent',
        '10m': {
          labels: 'job="vms/disklift",destination="HTTP",reason="DestinationUnreachable"',
          summary: 'Exports to HTTP destinations fail repeatedly: DestinationUnreachable.',
          description: '8 attempts failed and were retried in the last half hour.',
        },
        '40m': 'silent',
      },
    },
    {
      title: 'attempts fail now and then',
      series: { [`disklift_retries_total{${SIDECAR},destination="HTTP",reason="DestinationUnreachable"}`]: '0x9 1x9 2x9 3x9 4x9 5x9' },
      at: { '30m': 'silent', '50m': 'silent' },
    },
  ],
  FellBackToFull: [
    {
      title: 'an incremental export has made a full image',
      series: {
        [`disklift_images_total{${SIDECAR},destination="S3",type="Full",reason="BaseMissing"}`]: '0x9 1x100',
        [`disklift_images_total{${SIDECAR},destination="S3",type="Incremental",reason="BlockHashes"}`]: '0+1x100',
      },
      at: {
        '8m': 'silent',
        '15m': {
          labels: 'job="vms/disklift",destination="S3",reason="BaseMissing"',
          summary: 'Incremental exports to S3 destinations have made full images: BaseMissing.',
          description: '1 images of the last hour hold whole disks. The condition Incremental of each export names the disk.',
        },
        '80m': 'silent',
      },
    },
    {
      title: 'the first image of a tracker is full',
      series: { [`disklift_images_total{${SIDECAR},destination="S3",type="Full",reason="FirstImage"}`]: '0x9 1x30' },
      at: { '15m': 'silent' },
    },
  ],
  ClaimOverdue: [
    {
      title: 'a claim has had no successful export for more than 26 hours',
      series: { [`disklift_last_success_timestamp_seconds{${SIDECAR},export_namespace="vms",claim="root"}`]: '0x60 3600x2000' },
      at: {
        '20h': 'silent',
        '27h': 'silent',
        '28h': {
          labels: 'export_namespace="vms",claim="root"',
          summary: 'The claim vms/root has had no successful export for 26 hours.',
          description: 'The last successful export ended 1d 3h 0m 0s ago.',
        },
      },
    },
    {
      title: 'a nightly Job has not run again, and its pod does not exist',
      series: { [`disklift_last_success_timestamp_seconds{${SIDECAR},export_namespace="vms",claim="root"}`]: '_x10 600x5 stale' },
      at: {
        '1h': 'silent',
        '26h': 'silent',
        '48h': {
          labels: 'export_namespace="vms",claim="root"',
          summary: 'The claim vms/root has had no successful export for 26 hours.',
          description: 'The last successful export ended 1d 23h 50m 0s ago.',
        },
      },
    },
    {
      title: 'a restarted sidecar has no series of an export, and Prometheus still has them',
      series: {
        [`disklift_last_success_timestamp_seconds{${SIDECAR},export_namespace="vms",claim="root"}`]: '3600x1700 stale',
        'disklift_last_success_timestamp_seconds{job="vms/disklift",instance="10.0.0.8:9474",export_namespace="vms",claim="root"}':
          '0x1500 90000x1500',
      },
      at: { '26h': 'silent', '40h': 'silent' },
    },
    {
      title: 'a claim is exported every night',
      series: {
        [`disklift_last_success_timestamp_seconds{${SIDECAR},export_namespace="vms",claim="root"}`]: '60x1440 86460x1440 172860x1440',
      },
      at: { '24h': 'silent', '48h': 'silent', '70h': 'silent' },
    },
  ],
  ScheduleOverdue: [
    {
      title: 'no export of a schedule has succeeded in time, until one does',
      series: { [`disklift_schedule_overdue_timestamp_seconds{${SIDECAR},${SCHEDULE}}`]: '600x30 87000x30' },
      at: {
        '10m': 'silent',
        '15m': 'silent',
        '16m': {
          labels: SCHEDULE,
          summary: 'The schedule vms/nightly has no export that is young enough.',
          description: 'It is overdue for 6m 0s. The conditions of the DiskExportSchedule have the reason.',
        },
        '40m': 'silent',
      },
    },
    {
      title: 'an overdue schedule was deleted',
      series: { [`disklift_schedule_overdue_timestamp_seconds{${SIDECAR},${SCHEDULE}}`]: '60x20 stale' },
      at: { '30m': 'silent' },
    },
    {
      title: 'another controller leads, and knows of a later success',
      series: {
        [`disklift_schedule_overdue_timestamp_seconds{${SIDECAR},${SCHEDULE}}`]: '60x10',
        [`disklift_schedule_overdue_timestamp_seconds{job="vms/disklift",instance="b",${SCHEDULE}}`]: '90000x40',
      },
      at: { '8m': 'silent', '20m': 'silent' },
    },
  ],
  WatchStale: [
    {
      title: 'requests were not checked for more than five minutes',
      series: { [`disklift_watch_last_success_timestamp_seconds{${SIDECAR}}`]: '0+60x5 300x20' },
      at: {
        '12m': 'silent',
        '13m': {
          labels: SIDECAR,
          summary: 'A sidecar or controller cannot read its DiskExports.',
          description: '10.0.0.7:9474 sees no new, cancelled or deleted requests.',
        },
      },
    },
    {
      title: 'requests were never checked',
      series: { [`disklift_watch_last_success_timestamp_seconds{${SIDECAR}}`]: '_x10 0x20' },
      at: {
        '12m': {
          labels: SIDECAR,
          summary: 'A sidecar or controller cannot read its DiskExports.',
          description: '10.0.0.7:9474 sees no new, cancelled or deleted requests.',
        },
      },
    },
    {
      title: 'requests are checked now and then',
      series: { [`disklift_watch_last_success_timestamp_seconds{${SIDECAR}}`]: '0x3 240x3 480x3 720x3 960x3' },
      at: { '7m': 'silent', '15m': 'silent' },
    },
  ],
  TargetDown: [
    {
      title: 'a sidecar serves no metrics for five minutes',
      series: { [`up{${SIDECAR}}`]: '1x4 0x20', 'up{job="node",instance="b"}': '0x30' },
      at: {
        '9m': 'silent',
        '10m': {
          labels: SIDECAR,
          summary: 'Prometheus cannot scrape a sidecar or controller.',
          description: '10.0.0.7:9474 returns no metrics: it is down, or Prometheus cannot reach it.',
        },
      },
    },
    {
      title: 'a sidecar runs, or another one is being removed',
      series: { [`up{${SIDECAR}}`]: '1x30', 'up{job="vms/disklift",instance="b"}': '1x4 0x3 stale' },
      at: { '10m': 'silent', '20m': 'silent' },
    },
  ],
  ControllerNoLeader: [
    {
      title: 'two controllers run and none of them leads',
      series: {
        [`disklift_controller_leader{${CONTROLLER}}`]: '1x4 0x20',
        [`disklift_controller_leader{${STANDBY}}`]: '0x30',
      },
      at: {
        '9m': 'silent',
        '10m': {
          labels: 'job="backup/nightly-disklift"',
          summary: 'No controller leads.',
          description: 'No export of backup/nightly-disklift begins, and no snapshot of an ended export is removed.',
        },
      },
    },
    {
      title: 'no controller runs any more, until a day after its end',
      series: { [`disklift_controller_leader{${CONTROLLER}}`]: '1x4 stale' },
      at: {
        '9m': 'silent',
        '12m': {
          labels: 'job="backup/nightly-disklift"',
          summary: 'No controller leads.',
          description: 'No export of backup/nightly-disklift begins, and no snapshot of an ended export is removed.',
        },
        '1500m': 'silent',
      },
    },
    {
      title: 'another controller takes over within minutes',
      series: {
        [`disklift_controller_leader{${CONTROLLER}}`]: '1x9 0x30',
        [`disklift_controller_leader{${STANDBY}}`]: '0x13 1x30',
      },
      at: { '12m': 'silent', '30m': 'silent' },
    },
  ],
  ExportsWaitTooLong: [
    {
      title: 'the oldest export waits for more than six hours',
      series: { [`disklift_controller_oldest_waiting_timestamp_seconds{${CONTROLLER}}`]: '60x400' },
      at: {
        '360m': 'silent',
        '368m': {
          labels: 'job="backup/nightly-disklift"',
          summary: 'Exports wait too long for a slot.',
          description: 'The oldest one of backup/nightly-disklift was created 6h 7m 0s ago.',
        },
      },
    },
    {
      title: 'exports wait for an hour each, or none waits any more',
      series: { [`disklift_controller_oldest_waiting_timestamp_seconds{${CONTROLLER}}`]: '0x59 3600x59 7200x59 10800x59 14400x59 stale' },
      at: { '59m': 'silent', '290m': 'silent', '900m': 'silent' },
    },
  ],
  SnapshotsLeftBehind: [
    {
      title: 'a snapshot of an ended export is not removed for half an hour',
      series: {
        [`disklift_controller_leftover_objects{${CONTROLLER},kind="VolumeSnapshot"}`]: '0x4 2x60',
        [`disklift_controller_leftover_objects{${CONTROLLER},kind="PersistentVolumeClaim"}`]: '0x64',
      },
      at: {
        '34m': 'silent',
        '35m': {
          labels: 'job="backup/nightly-disklift",kind="VolumeSnapshot"',
          summary: 'Objects of ended exports are not removed: VolumeSnapshot.',
          description: '2 of them use storage although their exports have ended.',
        },
      },
    },
    {
      title: 'snapshots are removed within minutes, and a Job costs nothing',
      series: {
        [`disklift_controller_leftover_objects{${CONTROLLER},kind="VolumeSnapshot"}`]: '1x20 0x5 3x20 0x20',
        [`disklift_controller_leftover_objects{${CONTROLLER},kind="Job"}`]: '1x64',
      },
      at: { '20m': 'silent', '45m': 'silent', '60m': 'silent' },
    },
  ],
  ControllerFailing: [
    {
      title: 'looks at exports fail again and again',
      series: { [`disklift_controller_reconcile_failures_total{${CONTROLLER},reason="StoreRefused"}`]: '0+1x60' },
      at: {
        '20m': 'silent',
        '40m': {
          labels: 'job="backup/nightly-disklift",reason="StoreRefused"',
          summary: 'The controller fails repeatedly: StoreRefused.',
          description: '30 of its looks at exports have failed in the last half hour.',
        },
      },
    },
    {
      title: 'the API server was away for a few minutes',
      series: { [`disklift_controller_reconcile_failures_total{${CONTROLLER},reason="StoreUnavailable"}`]: '0x9 0+3x5 15x60' },
      at: { '15m': 'silent', '30m': 'silent', '50m': 'silent' },
    },
  ],
};

/** `a="1",b="2"` as an object. */
function labelsOf(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
}

describe('the alerts', () => {
  const temp = useTempDir();
  const rules = alertRules({});

  async function promtool(...args: string[]): Promise<void> {
    const { code, stdout, stderr } = await runCommand('promtool', args);
    assert.equal(code, 0, `${stdout}${stderr}`);
  }

  it('are rules without complaints of promtool', async () => {
    await promtool('check', 'rules', '--lint-fatal', path.join(ROOT, RULES_FILE));
    const { groups } = parse(readFileSync(path.join(ROOT, RULES_FILE), 'utf8')) as RuleGroups;
    assert.deepEqual(
      groups.flatMap((group) => group.rules),
      [...recordingRules({}), ...rules],
    );
  });

  it('query only metrics that exist, by labels that these have', () => {
    const declarations: MetricDeclaration[] = [...Object.values(METRICS), ...Object.values(CONTROLLER_METRICS)];
    const recorded = recordingRules({}).map(({ record }) => record);
    for (const { expr } of [...rules, ...recordingRules({})])
      for (const { metric, matchers } of selectorsOf(expr)) {
        if (metric === 'up' || recorded.includes(metric)) continue;
        const found = declarations.find(({ name }) => metric === METRIC_PREFIX + name) ?? assert.fail(metric);
        for (const matcher of matchers) assert.ok(found.labels.includes(/^[a-z_]+/.exec(matcher)?.[0] ?? ''), matcher);
      }
  });

  it('each link to a section of the operations page', () => {
    const headings = readFileSync(path.join(ROOT, RUNBOOK), 'utf8')
      .split('\n')
      .flatMap((line) => /^#+ (.*)$/.exec(line)?.[1] ?? []);
    const anchors = headings.map(
      (heading) =>
        `${RUNBOOK}#${heading
          .toLowerCase()
          .replaceAll(/[^a-z0-9 -]/g, '')
          .replaceAll(' ', '-')}`,
    );
    for (const { annotations, alert } of rules) assert.ok(anchors.includes(annotations.runbook_url), alert);
  });

  it('each have a scene in which they fire', () => {
    assert.deepEqual(
      Object.keys(SCENES)
        .map((name) => `Disklift${name}`)
        .sort(),
      rules.map(({ alert }) => alert).sort(),
    );
    for (const [name, scenes] of Object.entries(SCENES))
      for (const word of ['silent', 'object'])
        assert.ok(
          scenes.some(({ at }) => Object.values(at).some((each) => each === word || typeof each === word)),
          `${name}: ${word}`,
        );
  });

  /** A test case of promtool, for one alert at one time. */
  function expectation({ alert, labels, annotations }: AlertRule, at: string, fires: Scene['at'][string]): object {
    if (fires === 'silent') return { eval_time: at, alertname: alert, exp_alerts: [] };
    const { summary, description } = fires;
    const exp_annotations = { summary, description, runbook_url: annotations.runbook_url };
    return { eval_time: at, alertname: alert, exp_alerts: [{ exp_labels: { ...labels, ...labelsOf(fires.labels) }, exp_annotations }] };
  }

  for (const [name, scenes] of Object.entries(SCENES))
    for (const { title, series, at } of scenes)
      it(`${name}: ${title}`, async () => {
        const fires = (alert: string, time: string) => (alert === `Disklift${name}` ? (at[time] ?? 'silent') : 'silent');
        const test = {
          interval: '1m',
          input_series: Object.entries(series).map(([each, values]) => ({ series: each, values })),
          alert_rule_test: Object.keys(at).flatMap((time) => rules.map((rule) => expectation(rule, time, fires(rule.alert, time)))),
        };
        writeFileSync(
          temp('scene.yaml'),
          stringify({ rule_files: [path.join(ROOT, RULES_FILE)], evaluation_interval: '1m', tests: [test] }),
        );
        await promtool('test', 'rules', temp('scene.yaml'));
      });

  describe('in the chart', () => {
    let tools: HelmTools;
    before(() => {
      tools = helmTools();
    });

    async function render(values: object): Promise<Record<string, unknown>> {
      writeFileSync(
        temp('values.json'),
        JSON.stringify({ image: { repository: 'x' }, volumes: [{ name: 'a', claimName: 'a' }], ...values }),
      );
      const args = ['template', 'nightly', path.join(ROOT, 'charts', 'disklift'), '--namespace', 'vms', '--values', temp('values.json')];
      const { code, stdout, stderr } = await tools.helm(...args);
      assert.equal(code, 0, stderr);
      const documents = `\n${stdout}`.split('\n---\n').map((text) => parse(text) as Record<string, unknown> | null);
      return Object.fromEntries(documents.flatMap((each) => (each === null ? [] : [[each.kind, each]])));
    }

    it('are rendered on request, word for word, with links to the given runbook', async () => {
      const runbook = 'https://wiki.example/disklift';
      const { PrometheusRule: rule } = await render({ prometheusRule: { enabled: true, runbook, labels: { release: 'prometheus' } } });
      const { metadata, spec } = rule as { metadata: { name: string; labels: Record<string, string> }; spec: RuleGroups };
      assert.deepEqual([metadata.name, metadata.labels.release], ['nightly-disklift', 'prometheus']);
      const text = readFileSync(path.join(ROOT, CHART_RULES_FILE), 'utf8');
      assert.deepEqual(spec, parse(text.replaceAll(RUNBOOK, runbook)));
      assert.equal(text.includes(RUNBOOK), true);
    });

    it('come with the dashboard, as a ConfigMap that Grafana finds', async () => {
      const { ConfigMap: map } = await render({ dashboard: { enabled: true, annotations: { grafana_folder: 'Backup' } } });
      const { metadata, data } = map as { metadata: { labels: object; annotations: object }; data: Record<string, string> };
      assert.deepEqual(metadata.annotations, { grafana_folder: 'Backup' });
      assert.equal((metadata.labels as Record<string, string>).grafana_dashboard, '1');
      assert.equal(`${data['disklift.json']}\n`, readFileSync(path.join(ROOT, DASHBOARD_FILE), 'utf8'));
    });

    it('are not rendered by default', async () => {
      const objects = await render({});
      for (const kind of ['PrometheusRule', 'ConfigMap']) assert.ok(!(kind in objects), kind);
    });
  });
});
