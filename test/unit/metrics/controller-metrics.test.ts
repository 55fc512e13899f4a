import assert from 'node:assert/strict';
import { CONTROLLER_METRICS } from '../../../src/metrics/controller-catalogue.ts';
import { type ControllerMetrics, createControllerMetrics, type FleetFacts } from '../../../src/metrics/controller-metrics.ts';
import { createTestClock, type TestClock } from '../../helpers/test-clock.ts';

const NONE = { jobs: 0, configMaps: 0, persistentVolumeClaims: 0, volumeSnapshots: 0, virtualMachineSnapshots: 0 };

const FLEET: FleetFacts = {
  waitingCount: 3,
  oldestWaitingMs: 1_000_000,
  heldCount: 2,
  jobs: { Suspended: 0, Pending: 1, Running: 1, Ended: 0 },
  objects: { ...NONE, jobs: 2, volumeSnapshots: 4 },
  leftovers: { ...NONE, volumeSnapshots: 1 },
};

/** Names of the metrics that only the leader has. */
const OF_LEADER = /^disklift_(controller_(exports|oldest|jobs|objects|leftover)|schedule)/;

describe('metrics of the controller', () => {
  let clock: TestClock;
  let metrics: ControllerMetrics;
  let fleet: FleetFacts | undefined;
  let silentMs: number | undefined;

  beforeEach(() => {
    clock = createTestClock();
    fleet = undefined;
    silentMs = undefined;
    metrics = createControllerMetrics({ version: '1.2.3', clock, facts: () => fleet, silenceMs: () => silentMs });
  });

  async function scrape(): Promise<Record<string, number>> {
    const { text } = await metrics.scrape('prometheus');
    const lines = text.split('\n').filter((line) => line.startsWith('disklift_'));
    return Object.fromEntries(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
  }

  it('count the fleet at each scrape while the process leads', async () => {
    fleet = FLEET;
    metrics.leads(true);
    assert.partialDeepStrictEqual(await scrape(), {
      disklift_controller_leader: 1,
      disklift_controller_exports_waiting: 3,
      disklift_controller_oldest_waiting_timestamp_seconds: 1000,
      disklift_controller_exports_active: 2,
      'disklift_controller_jobs{state="Running"}': 1,
      'disklift_controller_jobs{state="Ended"}': 0,
      'disklift_controller_objects{kind="Job"}': 2,
      'disklift_controller_objects{kind="VolumeSnapshot"}': 4,
      'disklift_controller_leftover_objects{kind="VolumeSnapshot"}': 1,
      'disklift_controller_leftover_objects{kind="PersistentVolumeClaim"}': 0,
    });
    fleet = { ...FLEET, waitingCount: 0, oldestWaitingMs: undefined };
    const later = await scrape();
    assert.equal(later.disklift_controller_exports_waiting, 0);
    assert.ok(!('disklift_controller_oldest_waiting_timestamp_seconds' in later));
  });

  it('have no series of the fleet in a process that waits to lead, or leads no more', async () => {
    const ofLeader = async () => Object.keys(await scrape()).filter((name) => OF_LEADER.test(name));
    assert.deepEqual(await ofLeader(), []);
    fleet = FLEET;
    metrics.leads(true);
    metrics.schedules.onSchedule('vms', 'nightly', { isSuspended: false, lastSuccessMs: 5000, nextMs: 8000, overdueMs: 9000 });
    assert.ok((await ofLeader()).length > 10);
    fleet = undefined;
    metrics.leads(false);
    assert.deepEqual(await ofLeader(), []);
    assert.equal((await scrape()).disklift_controller_leader, 0);
  });

  it('count looks, their failures by reason, warnings, and refusals of the API server that are no conflicts', async () => {
    metrics.onReconcile(30, undefined);
    metrics.onReconcile(3000, 'StoreUnavailable');
    metrics.onWarning('SnapshotFailed');
    for (const kind of ['Forbidden', 'Conflict', 'NotFound', 'AlreadyExists', 'Expired', 'Forbidden']) metrics.onApiFailure(kind);
    assert.partialDeepStrictEqual(await scrape(), {
      disklift_controller_reconcile_duration_seconds_count: 2,
      'disklift_controller_reconcile_duration_seconds_bucket{le="0.1"}': 1,
      'disklift_controller_reconcile_failures_total{reason="StoreUnavailable"}': 1,
      'disklift_controller_reconcile_failures_total{reason="InternalError"}': 0,
      'disklift_controller_api_failures_total{reason="Forbidden"}': 2,
      'disklift_controller_api_failures_total{reason="Unavailable"}': 0,
      'disklift_controller_warnings_total{reason="SnapshotFailed"}': 1,
    });
    const names = Object.keys(await scrape());
    assert.ok(!names.some((name) => /"(Conflict|NotFound|AlreadyExists|Expired)"/.test(name)));
  });

  it('show when the API server last answered', async () => {
    assert.equal((await scrape()).disklift_watch_last_success_timestamp_seconds, 0);
    silentMs = 5000;
    assert.equal((await scrape()).disklift_watch_last_success_timestamp_seconds, clock.nowMs() / 1000 - 5);
  });

  it('are named as Prometheus asks for', () => {
    for (const { type, name, help, unit } of Object.values(CONTROLLER_METRICS)) {
      if (['bytes', 'seconds', 'ratio'].includes(unit)) assert.ok(name.replace(/_total$/, '').endsWith(`_${unit}`), name);
      assert.match(name, /^[a-z][a-z_]*$/);
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      assert.match(help, /^[A-Z0-9].*\.$/, name);
    }
  });
});
