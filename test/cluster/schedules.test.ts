/** A schedule on a real API server. Only its clock is set forward, and the test plays the workers. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { type Clock, systemClock, timestamp } from '../../src/common/clock.ts';
import { createExportsOfSchedules } from '../../src/controller/schedules/exports-of-schedules.ts';
import { runSchedules, type Schedules } from '../../src/controller/schedules/run-schedules.ts';
import { createReflector } from '../../src/stores/kubernetes/cache/reflector.ts';
import { createFleetApi, type FleetApi } from '../../src/stores/kubernetes/client/fleet-api.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { changed } from '../fixtures/request-table.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const MINUTE_MS = 60_000;

describe('a schedule on an API server', function () {
  this.timeout(90_000);
  let api: ApiServer;
  let namespace: Namespace;

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
    await installCrd(api, 'crd-schedules.yaml');
  });

  beforeEach(async () => {
    namespace = await createNamespace(api);
  });

  /** The loop in this process, with a clock that is ahead. */
  async function startLoop(
    clock: Clock,
  ): Promise<AsyncDisposable & { enqueue: Schedules['enqueue']; fleet: FleetApi; warnings: string[] }> {
    const access = createKubeconfigAccess({ kubeconfig: api.kubeconfig });
    const fleet = createFleetApi({ access, clock: systemClock, userAgent: 'disklift/test' });
    const stopped = new AbortController();
    const warnings: string[] = [];
    const shared = { clock, random: Math.random, warn: (message: string) => void warnings.push(message) };
    const exports = createReflector({
      resource: fleet.exports,
      namespace: namespace.name,
      onKey: (key) => {
        for (const schedule of index.update(key)) schedules.enqueue(schedule);
      },
      ...shared,
    });
    const index = createExportsOfSchedules((key) => exports.get(key));
    const schedules = runSchedules({
      api: fleet,
      exports: {
        get hasSynced() {
          return exports.hasSynced;
        },
        ofSchedule: index.ofSchedule,
      },
      namespaces: [namespace.name],
      instance: 'controller-0',
      assertLeading: async () => {},
      signal: stopped.signal,
      ...shared,
    });
    const running = exports.run(stopped.signal);
    return {
      enqueue: schedules.enqueue.bind(schedules),
      fleet,
      warnings,
      async [Symbol.asyncDispose]() {
        stopped.abort();
        await Promise.all([running, schedules.ended]);
        await access.close();
      },
    };
  }

  it('creates exports at its times, keeps its limits, and goes on in another process', async () => {
    let aheadMs = 0;
    const clock: Clock = { ...systemClock, nowMs: () => Date.now() + aheadMs };
    const collection = `/apis/disklift.dev/v1alpha1/namespaces/${namespace.name}`;
    const key = `${namespace.name}/nightly`;
    const { spec } = changed({});
    const created = await api.request(`${collection}/diskexportschedules`, {
      method: 'POST',
      body: {
        apiVersion: 'disklift.dev/v1alpha1',
        kind: 'DiskExportSchedule',
        metadata: { name: 'nightly' },
        spec: {
          schedule: '* * * * *',
          successfulExportsHistoryLimit: 1,
          exportTemplate: { metadata: { labels: { team: 'storage' } }, spec },
        },
      },
    });
    assert.equal(created.status, 201, JSON.stringify(created.body));
    const startMs = Date.parse(created.body.metadata.creationTimestamp);
    const firstMs = (Math.floor(startMs / MINUTE_MS) + 1) * MINUTE_MS;
    const timeOf = (run: number) => firstMs + run * MINUTE_MS;
    const nameOf = (run: number) => `nightly-${timeOf(run) / MINUTE_MS}`;
    const get = async (name: string) => (await api.request(`${collection}/diskexports/${name}`)).body;
    const status = async () => (await api.request(`${collection}/diskexportschedules/nightly`)).body.status ?? {};
    const setTo = (timeMs: number) => {
      aheadMs = timeMs - Date.now();
    };

    async function run(number: number, phase: 'Succeeded' | 'Failed', enqueue: (key: string) => void): Promise<void> {
      setTo(timeOf(number) + 1000);
      enqueue(key);
      await until(`${nameOf(number)} exists`, async () => (await get(nameOf(number))).metadata?.name === nameOf(number));
      await until('the status has it', async () => (await status()).active?.includes(nameOf(number)));
      const now = timestamp(clock.nowMs());
      const patch = { status: { phase, startTime: now, completionTime: now } };
      const url = `${collection}/diskexports/${nameOf(number)}/status`;
      assert.equal((await api.request(url, { method: 'PATCH', body: patch, contentType: 'application/merge-patch+json' })).status, 200);
      await until('no export is active', async () => (await status()).activeCount === 0);
    }

    {
      await using loop = await startLoop(clock);
      await run(0, 'Succeeded', loop.enqueue);
      assert.partialDeepStrictEqual((await get(nameOf(0))).metadata, {
        labels: { team: 'storage', 'disklift.dev/schedule': 'nightly' },
        annotations: { 'disklift.dev/scheduled-time': timestamp(timeOf(0)) },
        ownerReferences: [{ kind: 'DiskExportSchedule', name: 'nightly', uid: created.body.metadata.uid }],
      });
      await run(1, 'Failed', loop.enqueue);
      await run(2, 'Succeeded', loop.enqueue);
      await run(3, 'Failed', loop.enqueue);
      assert.deepEqual(loop.warnings, []);
    }
    setTo(timeOf(500));
    await using loop = await startLoop(clock);
    await run(500, 'Succeeded', loop.enqueue);
    const names = async () => (await loop.fleet.exports.list(namespace.name)).items.map(({ metadata }) => metadata.name).sort();
    await until('the oldest exports are deleted', async () => (await names()).length === 2);
    assert.deepEqual(await names(), [nameOf(3), nameOf(500)].sort());
    const { conditions, ...times } = await status();
    assert.partialDeepStrictEqual(times, { lastScheduleTime: timestamp(timeOf(500)), nextScheduleTime: timestamp(timeOf(501)) });
    assert.partialDeepStrictEqual(conditions, [
      { type: 'Ready', status: 'True' },
      { type: 'UpToDate', status: 'True' },
    ]);
    const { items } = await loop.fleet.events.list(namespace.name);
    const events = items.map(({ involvedObject, reason, reportingComponent }) => [involvedObject?.kind, reason, reportingComponent]);
    for (const reason of ['ExportCreated', 'RunMissed'])
      assert.ok(
        events.some((event) => event.join() === `DiskExportSchedule,${reason},disklift.dev/controller`),
        reason,
      );
    assert.deepEqual(loop.warnings, []);
  });

  it('shows a schedule that cannot be read, and starts it when that is repaired', async () => {
    const url = `/apis/disklift.dev/v1alpha1/namespaces/${namespace.name}/diskexportschedules`;
    const body = {
      apiVersion: 'disklift.dev/v1alpha1',
      kind: 'DiskExportSchedule',
      metadata: { name: 'broken' },
      spec: { schedule: '0 0 31 2 *', exportTemplate: { spec: changed({}).spec } },
    };
    await using _ = await startLoop(systemClock);
    assert.equal((await api.request(url, { method: 'POST', body })).status, 201);
    const ready = async (): Promise<Record<string, string>> => {
      const { conditions = [] } = (await api.request(`${url}/broken`)).body.status ?? {};
      return conditions.find(({ type }: { type: string }) => type === 'Ready') ?? {};
    };
    await until('the condition has the reason', async () => (await ready()).reason === 'InvalidSchedule');
    const patch = { spec: { schedule: '@daily', timeZone: 'Europe/Berlin' } };
    await api.request(`${url}/broken`, { method: 'PATCH', body: patch, contentType: 'application/merge-patch+json' });
    await until('the schedule is ready', async () => (await ready()).status === 'True');
  });
});
