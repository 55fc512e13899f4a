/**
 * The real Prometheus scrapes a sidecar during real exports. Every query of the dashboard must give the numbers that
 * the exports had. The alerts must fire in the server, by rules whose minutes are seconds.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { alertRules, recordingRules } from '../../monitoring/alerts.ts';
import { packageVersion } from '../../src/config/environment.ts';
import { expand, panelsOf, readDashboard } from '../helpers/dashboard.ts';
import type { Sample } from '../helpers/prometheus.ts';
import { runShell } from '../helpers/run-command.ts';
import {
  CLUSTERS,
  FLEET,
  LATE_SECONDS,
  NAMES,
  SCHEDULE,
  SPEEDUP,
  startWatchedExports,
  until,
  type WatchedExports,
} from '../helpers/watched-exports.ts';

const MIB = 1024 * 1024;
const CLUSTER_BYTES = 65_536;
const SKIPPED = CLUSTERS.hole + CLUSTERS.zero;

type Name = (typeof NAMES)[number];

/** Values by the named labels. */
function by(samples: readonly Sample[], ...names: string[]): Record<string, number> {
  return Object.fromEntries(samples.map(({ labels, value }) => [names.map((name) => labels[name]).join('/'), value]));
}

const ofEach = (of: (name: Name) => number) => Object.fromEntries(NAMES.map((name) => [`vms/${name}`, of(name)]));

describe('Prometheus', function () {
  this.timeout(90_000);
  let directory: string;
  let exports: WatchedExports;
  let rangeSeconds: number;

  before(async () => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
    exports = await startWatchedExports(directory, 6 * MIB);
    rangeSeconds = Math.ceil((Date.now() - exports.startMs) / 1000) + 60;
  });
  after(async () => {
    await exports?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  const clustersOf = (name: Name) => exports.statusOf(name).disk.clusters ?? assert.fail(name);
  const imageClusters = () => (exports.statusOf('steady').disk.imageBytes as number) / CLUSTER_BYTES;

  /** Compares a rate over the whole time with the growth of the counters since their first scrape. */
  async function assertGrowth(samples: Sample[], counter: string, label?: 'export'): Promise<void> {
    const window = `[${rangeSeconds}s]`;
    const grown = await exports.prometheus.query(
      `sum by (${label ?? ''}) (max_over_time(${counter}${window}) - min_over_time(${counter}${window}))`,
    );
    const expected = by(grown, ...(label === undefined ? [] : [label]));
    const actual = by(samples, ...(label === undefined ? [] : [label]));
    assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort());
    for (const [key, perSecond] of Object.entries(actual)) {
      const [seen, was] = [perSecond * rangeSeconds, expected[key] as number];
      // At both ends rate() adds at most one scrape's worth.
      assert.ok(seen >= was * 0.99 && seen <= was * 1.2, `${counter} ${key}: ${seen} is not ${was}`);
    }
  }

  function assertLate(seconds = -1): void {
    assert.ok(seconds >= LATE_SECONDS && seconds < LATE_SECONDS + rangeSeconds + 60, `${seconds} s`);
  }

  /** By the title of a panel: the expected result of each of its queries, in order. */
  const EXPECTED: Record<string, ((samples: Sample[]) => void | Promise<void>)[]> = {
    Running: [(samples) => assert.deepEqual(by(samples), { '': 1 })],
    Waiting: [(samples) => assert.deepEqual(by(samples), { '': 0 }), (samples) => assert.deepEqual(by(samples), { '': 0 })],
    Ended: [(samples) => assert.deepEqual(by(samples, 'result'), { Succeeded: 2, Failed: 1, Cancelled: 0 })],
    'Sent per second': [(samples) => assertGrowth(samples, 'disklift_destination_sent_bytes_total')],
    'Saved by sparseness': [(samples) => assert.deepEqual(by(samples), { '': SKIPPED / CLUSTERS.total })],
    Sidecars: [(samples) => assert.deepEqual(by(samples, 'version'), { [packageVersion()]: 1 })],
    'Running by sidecar': [(samples) => assert.deepEqual(by(samples, 'instance'), { [exports.instance]: 1 })],
    'Ended by destination and result': [
      (samples) => assert.deepEqual(by(samples, 'destination', 'result'), { 'HTTP/Succeeded': 2, 'HTTP/Failed': 1 }),
    ],
    Duration: [
      (samples) => {
        const counts = samples.map(({ labels, value }) => [Number(labels.le?.replace('+Inf', 'Infinity')), Math.round(value)] as const);
        counts.sort(([a], [b]) => a - b);
        // The steady export takes seven seconds.
        for (const [bound, count] of counts) assert.ok(bound <= 1 ? count <= 2 : bound < 60 || count === 3, `${bound} s: ${count}`);
        assert.equal(counts.at(-1)?.[1], 3);
      },
    ],
    'Sent by destination': [
      async (samples) => {
        const { sentBytes = 0 } = exports.statusOf('stalled').disk;
        const done = ['steady', 'retried'].reduce((sum, name) => sum + (exports.statusOf(name as Name).disk.imageBytes ?? 0), 0);
        const { HTTP: increased = 0, ...others } = by(samples, 'destination');
        assert.deepEqual(others, {});
        // The failed attempt of "retried" has sent bytes too. The extrapolation of increase() adds at most one scrape
        // interval.
        assert.ok(increased >= (done + sentBytes) * 0.99 && increased <= (done + sentBytes) * 1.5, `${increased} of ${done + sentBytes}`);
      },
    ],
    'Since last success': [
      (samples) => {
        const { 'vms/claim': seconds = -1, ...others } = by(samples, 'export_namespace', 'claim');
        assert.deepEqual(others, {});
        assert.ok(seconds >= 0 && seconds < rangeSeconds + 60, `${seconds} s`);
      },
    ],
    'Read per second by export': [(samples) => assertGrowth(samples, 'disklift_source_read_bytes_total', 'export')],
    'Sent per second by export': [
      async (samples) => {
        await assertGrowth(samples, 'disklift_sent_bytes_total', 'export');
        // Not all of it, because the first scrape finds something there already.
        const { steady = 0 } = by(samples, 'export');
        assert.ok(steady * rangeSeconds > 20 * MIB, `${steady}`);
      },
    ],
    Progress: [
      (samples) => {
        const { sentBytes = 0, imageBytes = 0 } = exports.statusOf('stalled').disk;
        assert.deepEqual(by(samples, 'export_namespace', 'export', 'disk'), {
          'vms/steady/disk.img': 1,
          'vms/retried/disk.img': 1,
          'vms/failed/disk.img': 0,
          'vms/stalled/disk.img': sentBytes / imageBytes,
        });
        assert.ok(sentBytes > 0 && sentBytes < imageBytes);
      },
    ],
    'Since last progress': [
      (samples) => {
        const values = by(samples, 'export_namespace', 'export', 'disk');
        assert.deepEqual(Object.keys(values), ['vms/stalled/disk.img']);
        assert.ok((values['vms/stalled/disk.img'] as number) > 2 && (values['vms/stalled/disk.img'] as number) < rangeSeconds);
      },
    ],
    'Clusters by export': [
      (samples) =>
        assert.deepEqual(
          by(samples, 'export_namespace', 'export'),
          ofEach((name) => clustersOf(name).scanned as number),
        ),
      (samples) =>
        assert.deepEqual(
          by(samples, 'export_namespace', 'export'),
          ofEach(() => CLUSTERS.hole),
        ),
      (samples) =>
        assert.deepEqual(
          by(samples, 'export_namespace', 'export'),
          ofEach(() => CLUSTERS.zero),
        ),
      (samples) =>
        assert.deepEqual(
          by(samples, 'export_namespace', 'export'),
          ofEach((name) => clustersOf(name).written as number),
        ),
      (samples) => {
        const metadata = by(samples, 'export');
        const expected = imageClusters() - CLUSTERS.data;
        assert.deepEqual([metadata.steady, metadata.retried, metadata.failed], [expected, expected, 0]);
      },
      (samples) =>
        assert.deepEqual(
          by(samples, 'export_namespace', 'export'),
          ofEach(() => SKIPPED / CLUSTERS.total),
        ),
    ],
    'Clusters per second': [
      (samples) => assertGrowth(samples, 'disklift_destination_scanned_clusters_total'),
      (samples) => assertGrowth(samples, 'disklift_destination_written_clusters_total{kind="data"}'),
    ],
    Schedules: [
      ...[SCHEDULE.lastSuccessMs, SCHEDULE.nextMs, SCHEDULE.overdueMs].map((timeMs) => (samples: Sample[]) => {
        const { 'vms/nightly': value = 0, ...others } = by(samples, 'export_namespace', 'schedule');
        assert.deepEqual(others, {});
        assert.ok(Math.abs(value - timeMs) < 2, `${value} is ${timeMs}`);
      }),
      (samples) => assert.deepEqual(by(samples, 'export_namespace', 'schedule'), { 'vms/nightly': 0 }),
    ],
    'Since last success by schedule': [
      (samples) => {
        const { 'vms/nightly': seconds = 0, ...others } = by(samples, 'export_namespace', 'schedule');
        assert.deepEqual(others, {});
        assert.ok(seconds >= 3600 && seconds < 3900, `${seconds} s`);
      },
    ],
    'Failed exports': [
      (samples) => {
        const values = by(samples, 'export_namespace', 'export', 'destination', 'reason');
        assert.deepEqual(Object.keys(values), ['vms/failed/HTTP/DestinationRejected']);
        const endMs = Date.parse(exports.statusOf('failed').completionTime ?? '');
        assert.ok(Math.abs((values['vms/failed/HTTP/DestinationRejected'] as number) - endMs) < 2000);
      },
    ],
    'Retries by reason': [(samples) => assert.deepEqual(by(samples, 'destination', 'reason'), { 'HTTP/DestinationRejected': 1 })],
    'Age of the list of requests': [
      (samples) => {
        const ages = by(samples, 'instance');
        assert.deepEqual(Object.keys(ages).sort(), [exports.instance, exports.controllerInstance].sort());
        for (const ageSeconds of Object.values(ages)) assert.ok(ageSeconds >= 0 && ageSeconds < 10, `${ageSeconds}`);
      },
    ],
    // No export here asks for incremental images.
    'Images by type': [(samples) => assert.deepEqual(samples, [])],
    'Changed bytes': [(samples) => assert.deepEqual(samples, [])],
    Leaders: [(samples) => assert.deepEqual(by(samples), { '': 1 })],
    Slots: [
      (samples) => assert.deepEqual(by(samples), { '': FLEET.heldCount }),
      (samples) => assert.deepEqual(by(samples), { '': FLEET.waitingCount }),
    ],
    'Oldest waiting': [(samples) => assertLate(by(samples)[''])],
    'Left behind': [(samples) => assert.deepEqual(by(samples), { '': 1 })],
    'Jobs by state': [(samples) => assert.deepEqual(by(samples, 'state'), FLEET.jobs)],
    'Objects of exports': [
      (samples) =>
        assert.deepEqual(by(samples, 'kind'), {
          ...{ Job: 3, VolumeSnapshot: 2, PersistentVolumeClaim: 1 },
          ...{ ConfigMap: 0, VirtualMachineSnapshot: 0 },
        }),
    ],
    'Duration of looks': [
      (samples) => {
        const counts = by(samples, 'le');
        assert.deepEqual(
          [counts['0.005'], counts['0.1'], counts['+Inf']].map((count) => Math.round(count ?? Number.NaN)),
          [0, 1, 1],
        );
      },
    ],
    'Warnings by reason': [(samples) => assert.deepEqual(by(samples, 'reason'), { SnapshotFailed: 1 })],
    'Failed looks by reason': [(samples) => assert.deepEqual(by(samples, 'reason'), { StoreRefused: 1 })],
    'Refusals of the API server': [(samples) => assert.deepEqual(by(samples, 'reason'), { Forbidden: 1 })],
  };

  describe('gives what the dashboard shows', () => {
    const panels = panelsOf(readDashboard());

    it('in every panel', () => {
      assert.deepEqual(Object.keys(EXPECTED).sort(), panels.map(({ title }) => title).sort());
      for (const { title, targets } of panels) assert.equal(EXPECTED[title]?.length, targets?.length, title);
    });

    for (const { title, targets = [] } of panels)
      for (const [index, { expr, refId }] of targets.entries())
        it(`${title}${targets.length > 1 ? ` (${refId})` : ''}`, async () => {
          await EXPECTED[title]?.[index]?.(await exports.prometheus.query(expand(expr, rangeSeconds)));
        });

    it('with scanned clusters as the sum of skipped and written ones', () => {
      const { total, scanned, skipped, written } = clustersOf('steady');
      assert.deepEqual([total, scanned, skipped, written], [CLUSTERS.total, CLUSTERS.total, SKIPPED, CLUSTERS.data]);
      assert.equal(scanned, (skipped ?? 0) + (written ?? 0));
    });
  });

  it('fires the alerts of a failed and a stalled export, of late ones of the controller and a missing target, and no other', async () => {
    const expected = [
      ['DiskliftExportFailed', `vms/failed`],
      ['DiskliftExportStalled', `vms/stalled`],
      ['DiskliftExportsWaitTooLong', 'backup/disklift'],
      ['DiskliftTargetDown', exports.goneInstance],
    ];
    const firing = async () =>
      (await exports.prometheus.alerts())
        .filter(({ state }) => state === 'firing')
        .map(({ labels }) => [
          labels.alertname,
          labels.export_namespace === undefined
            ? (labels.instance ?? labels.job)
            : `${labels.export_namespace}/${labels.export ?? labels.schedule}`,
        ])
        // This one fires after half a minute more or less.
        .filter(([name]) => name !== 'DiskliftSnapshotsLeftBehind')
        .sort();
    await until(async () => (await firing()).length >= expected.length);
    assert.deepEqual(await firing(), expected);
    const failed = (await exports.prometheus.alerts()).find(({ labels }) => labels.export === 'failed');
    assert.equal(failed?.annotations.summary, 'The export vms/failed has failed: DestinationRejected.');
  });

  it('can evaluate every rule', async () => {
    const rules = await exports.prometheus.rules();
    for (const { name, health, lastError = '' } of rules) assert.deepEqual([health, lastError], ['ok', ''], name);
    const expected = [...recordingRules({}).map(({ record }) => record), ...alertRules({}).map(({ alert }) => alert)];
    assert.deepEqual(rules.map(({ name }) => name).sort(), expected.sort());
    for (const { expr } of alertRules({ speedup: SPEEDUP })) await exports.prometheus.query(expr);
  });

  it('receives OpenMetrics, the only format with units', async () => {
    assert.equal(await exports.prometheus.unitOf('disklift_sent_bytes'), 'bytes');
  });

  for (const [whose, instanceOf] of [
    ['sidecar', () => exports.instance],
    ['controller', () => exports.controllerInstance],
  ] as const)
    it(`has no complaints about the metrics of the ${whose} (promtool check metrics)`, async () => {
      const file = path.join(directory, 'metrics');
      await writeFile(file, await (await fetch(`http://${instanceOf()}/metrics`)).text());
      const { code, stdout, stderr } = await runShell(`promtool check metrics < '${file}'`);
      assert.deepEqual([code, `${stdout}${stderr}`], [0, '']);
    });
});
