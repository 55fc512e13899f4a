import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { timestamp } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createExportsOfSchedules } from '../../../../src/controller/schedules/exports-of-schedules.ts';
import type { ScheduleState } from '../../../../src/controller/schedules/observer.ts';
import { runSchedules, type Schedules } from '../../../../src/controller/schedules/run-schedules.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { createFakeSchedulesApi, FAULT_KINDS, type FakeSchedulesApi, type FaultKind } from './fake-schedules-api.ts';
import { exportObject, nameOf, scheduleObject } from './schedule-scene.ts';

const KEY = 'vms/nightly';
const EVERY_MINUTE = { schedule: '* * * * *', successfulExportsHistoryLimit: 1 };
const STEP_MS = 10_000;
/** An export ends this long after its creation. */
const EXPORT_MS = 20_000;

interface Scene extends AsyncDisposable {
  clock: ManualClock;
  fake: FakeSchedulesApi;
  schedules: Schedules;
  warnings: string[];
  states: Map<string, ScheduleState | 'gone'>;
  /** Ends the process at once. The next step of time starts another one. */
  kill(): void;
  /** Ends the process, and starts another one. */
  restart(): Promise<void>;
  /** Time passes; workers finish exports as `result` says. */
  pass(durationMs: number, result?: (name: string) => 'Succeeded' | 'Failed' | undefined): Promise<void>;
  /** Whether the process may start runs. */
  lead: { isLeading: boolean };
  /** Whether the copy of the exports receives changes. */
  copy: { isStale: boolean };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await nextTurn();
}

async function createScene(namespaces: readonly string[] = ['vms']): Promise<Scene> {
  const clock = createManualClock();
  const fake = createFakeSchedulesApi(clock);
  const [warnings, states] = [[] as string[], new Map<string, ScheduleState | 'gone'>()];
  const [lead, copy] = [{ isLeading: true }, { isStale: false }];
  let stop = new AbortController();
  const copied = new Map<string, unknown>();
  const index = createExportsOfSchedules((key) => copied.get(key) as ReturnType<FakeSchedulesApi['exports']['get']>);
  fake.onExport = (key) => {
    if (copy.isStale) return;
    const object = fake.exports.get(key);
    if (object === undefined) copied.delete(key);
    else copied.set(key, object);
    for (const schedule of index.update(key)) scene.schedules.enqueue(schedule);
  };

  function start(): Schedules {
    stop = new AbortController();
    return runSchedules({
      api: fake.api,
      exports: { hasSynced: true, ofSchedule: index.ofSchedule },
      namespaces,
      instance: 'controller-0',
      async assertLeading() {
        if (!lead.isLeading) throw new DiskliftError('ExecutorLost', 'another controller leads');
      },
      clock,
      random: () => 0.5,
      warn: (message) => warnings.push(message),
      signal: stop.signal,
      observer: {
        onSchedule: (namespace, name, state) => states.set(`${namespace}/${name}`, state),
        onScheduleGone: (namespace, name) => states.set(`${namespace}/${name}`, 'gone'),
      },
    });
  }

  const scene: Scene = {
    ...{ clock, fake, warnings, states, lead, copy },
    schedules: start(),
    kill: () => stop.abort(),
    async restart() {
      stop.abort();
      await scene.schedules.ended;
      scene.schedules = start();
      await settle();
    },
    async pass(durationMs, result = () => 'Succeeded') {
      for (let passedMs = 0; passedMs < durationMs; passedMs += STEP_MS) {
        await clock.advance(STEP_MS);
        await settle();
        if (stop.signal.aborted) await scene.restart();
        for (const [key, { metadata, status, spec }] of fake.exports) {
          const scheduledMs = Date.parse(metadata.annotations?.['disklift.dev/scheduled-time'] ?? '');
          if (status?.completionTime !== undefined || clock.nowMs() - scheduledMs < EXPORT_MS) continue;
          const phase = spec?.cancel === true ? 'Cancelled' : result(metadata.name);
          const now = timestamp(clock.nowMs());
          if (phase !== undefined) fake.setExportStatus(key, { phase, startTime: now, completionTime: now });
        }
        await settle();
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      // An event that hangs has the time limit of the client.
      await clock.advance(2 * STEP_MS);
      await scene.schedules.ended;
    },
  };
  await settle();
  return scene;
}

function statusOf({ fake }: Scene): Record<string, unknown> {
  return fake.schedules.get(KEY)?.status ?? {};
}

function eventsOf({ fake }: Scene): string[] {
  return [...fake.events.values()].map(({ reason }) => reason ?? '');
}

const minute = (number: number) => nameOf(timestamp(Date.UTC(2026, 0, 1, 0, number)));

describe('the loop of the schedules', function () {
  this.timeout(120_000);

  it('creates an export at each time, keeps the history, and waits for the next time', async () => {
    await using scene = await createScene();
    scene.fake.putSchedule(scheduleObject(EVERY_MINUTE));
    await scene.pass(4 * 60_000 + 30_000);
    const created = scene.fake.calls.filter((call) => call.startsWith('create exports'));
    assert.deepEqual(
      created,
      [1, 2, 3, 4].map((number) => `create exports vms/${minute(number)}`),
    );
    assert.deepEqual([...scene.fake.exports.keys()], [`vms/${minute(4)}`], 'one success is kept');
    assert.partialDeepStrictEqual(statusOf(scene), {
      active: [],
      lastScheduleTime: '2026-01-01T00:04:00Z',
      lastSuccessfulTime: '2026-01-01T00:04:20Z',
      nextScheduleTime: '2026-01-01T00:05:00Z',
    });
    assert.deepEqual(eventsOf(scene), ['ExportCreated']);
    assert.partialDeepStrictEqual(scene.states.get(KEY), { isSuspended: false, nextMs: Date.UTC(2026, 0, 1, 0, 5) });
    assert.deepEqual(scene.warnings, []);
  });

  it('makes few calls: a look at the API server, a create, its event, and status changes', async () => {
    await using scene = await createScene();
    scene.fake.putSchedule(scheduleObject({ ...EVERY_MINUTE, successfulExportsHistoryLimit: 9 }));
    await scene.pass(60_000 + 30_000);
    const kinds = scene.fake.calls.map((call) => call.split(' ').slice(0, 2).join(' '));
    assert.deepEqual(kinds, [
      ...['list schedules', 'patch schedules/status'],
      ...['get schedules', 'list exports', 'create exports', 'create events', 'patch schedules/status'],
      'patch schedules/status',
    ]);
  });

  it('starts the run that was missed while no process ran, once', async () => {
    await using scene = await createScene();
    scene.fake.putSchedule(scheduleObject({ schedule: '*/10 * * * *' }));
    await scene.pass(60_000);
    const before = scene.fake.calls.length;
    await scene.clock.advance(45 * 60_000);
    await scene.restart();
    await scene.pass(60_000);
    const created = scene.fake.calls.slice(before).filter((call) => call.startsWith('create exports'));
    assert.equal(created.at(-1), `create exports vms/${minute(40)}`);
    assert.equal(new Set(created).size, created.length);
  });

  it('cancels with Replace, and starts the run when the cancelled export has ended', async () => {
    await using scene = await createScene();
    scene.fake.putSchedule(scheduleObject({ ...EVERY_MINUTE, concurrencyPolicy: 'Replace', failedExportsHistoryLimit: 5 }));
    await scene.pass(2 * 60_000, () => undefined);
    assert.equal(scene.fake.exports.get(`vms/${minute(1)}`)?.spec?.cancel, true);
    await scene.pass(30_000, () => undefined);
    assert.equal(scene.fake.exports.get(`vms/${minute(1)}`)?.status?.phase, 'Cancelled');
    assert.equal(scene.fake.exports.get(`vms/${minute(2)}`)?.status, undefined);
    assert.ok(eventsOf(scene).includes('RunWaits'));
  });

  it('does not start a run beside an export that the old copy does not show', async () => {
    await using scene = await createScene();
    scene.fake.putSchedule(scheduleObject(EVERY_MINUTE));
    scene.copy.isStale = true;
    await scene.pass(2 * 60_000 + 10_000, () => undefined);
    assert.deepEqual([...scene.fake.exports.keys()], [`vms/${minute(1)}`]);
  });

  it('leaves out a run whose name another owner has taken, and says that', async () => {
    await using scene = await createScene();
    scene.fake.putExport(exportObject({ scheduledTime: '2026-01-01T00:01:00Z', owner: 'another' }));
    scene.fake.putSchedule(scheduleObject(EVERY_MINUTE));
    await scene.pass(90_000);
    assert.equal(statusOf(scene).lastScheduleTime, '2026-01-01T00:01:00Z');
    assert.deepEqual(eventsOf(scene), ['NameTaken']);
  });

  it('shows in the status why the API server refuses the export, and tries again with growing pauses', async () => {
    await using scene = await createScene();
    scene.fake.fault = (call) => (call.startsWith('create exports') ? 'refused' : undefined);
    scene.fake.putSchedule(scheduleObject({ schedule: '1 * * * *' }));
    await scene.pass(20 * 60_000);
    const tries = scene.fake.calls.filter((call) => call.startsWith('create exports')).length;
    assert.ok(tries > 5 && tries < 30, `${tries}`);
    assert.partialDeepStrictEqual(statusOf(scene).conditions, [{ type: 'Ready', status: 'False', reason: 'ExportRefused' }]);
    assert.equal(statusOf(scene).lastScheduleTime, undefined);
    scene.fake.fault = undefined;
    await scene.pass(6 * 60_000);
    assert.equal(statusOf(scene).lastScheduleTime, '2026-01-01T00:01:00Z');
    assert.partialDeepStrictEqual(statusOf(scene).conditions, [{ type: 'Ready', status: 'True' }]);
  });

  it('starts, cancels and deletes nothing while another controller may lead', async () => {
    await using scene = await createScene();
    scene.lead.isLeading = false;
    scene.fake.putExport(exportObject({ scheduledTime: '2025-12-31T23:59:00Z', phase: 'Succeeded' }));
    scene.fake.putSchedule(scheduleObject({ ...EVERY_MINUTE, successfulExportsHistoryLimit: 0 }));
    await scene.pass(2 * 60_000);
    assert.equal(scene.fake.exports.size, 1);
    assert.ok(!scene.fake.calls.some((call) => /^(create|patch|remove) exports/.test(call)));
  });

  it('forgets a deleted schedule, and starts anew with one of the same name', async () => {
    await using scene = await createScene();
    scene.fake.putSchedule(scheduleObject(EVERY_MINUTE));
    await scene.pass(90_000);
    scene.fake.removeSchedule(KEY);
    await settle();
    assert.equal(scene.states.get(KEY), 'gone');
    const anew = scheduleObject(EVERY_MINUTE);
    scene.fake.putSchedule({ metadata: { ...anew.metadata, uid: 'anew' }, spec: { ...(anew.spec as object), suspend: true } } as never);
    await settle();
    assert.partialDeepStrictEqual(scene.states.get(KEY), { isSuspended: true });
  });

  it('goes on with the other schedules while the status of one cannot be written', async () => {
    await using scene = await createScene([]);
    scene.fake.fault = (call) => (call === `patch schedules/status ${KEY}` ? 'hangs' : undefined);
    for (const name of ['nightly', 'a', 'b', 'c', 'd', 'e']) {
      const schedule = scheduleObject(EVERY_MINUTE);
      scene.fake.putSchedule({ ...schedule, metadata: { ...schedule.metadata, name, uid: `uid-of-${name}` } });
    }
    await scene.pass(3 * 60_000);
    for (const name of ['a', 'b', 'c', 'd', 'e'])
      assert.equal(scene.fake.schedules.get(`vms/${name}`)?.status?.lastScheduleTime, '2026-01-01T00:03:00Z');
    assert.ok(scene.warnings.some((message) => message.includes('does not answer within 30 s')));
  });

  describe('with one fault', () => {
    /** The calls of a life of some minutes, with cancellations, a failure and deletions. */
    async function live(fault: (index: number, scene: Scene) => FaultKind | undefined): Promise<Scene> {
      const scene = await createScene();
      const { fake, clock } = scene;
      fake.fault = (_, index) => fault(index, scene);
      const ended = new Map<string, { time: string; phase: unknown }>();
      const before = fake.onExport as (key: string) => void;
      fake.onExport = (key) => {
        const object = fake.exports.get(key);
        if (object?.status?.completionTime !== undefined)
          ended.set(key, { time: String(object.status.completionTime), phase: object.status.phase });
        if (object === undefined) {
          const known = ended.get(key);
          assert.ok(known !== undefined, `${key} is deleted before its end`);
          const last = fake.schedules.get(KEY)?.status?.lastSuccessfulTime;
          assert.ok(known.phase !== 'Succeeded' || String(last) >= known.time, `${key} is deleted before the status has its success`);
        }
        const unfinished = [...fake.exports.values()].filter(({ status }) => status?.completionTime === undefined);
        assert.ok(unfinished.length <= 1, 'one export runs at a time');
        before(key);
      };
      fake.putSchedule(scheduleObject({ ...EVERY_MINUTE, concurrencyPolicy: 'Replace' }));
      const slow = minute(2);
      await scene.pass(190_000, (name) => (name === slow ? undefined : name === minute(1) ? 'Failed' : 'Succeeded'));
      await scene.pass(20_000);
      beforeLastMinutes = fake.calls.length;
      await scene.pass(150_000);
      assert.equal(clock.nowMs(), Date.UTC(2026, 0, 1, 0, 6));
      return scene;
    }

    let beforeLastMinutes: number;
    let calls: string[] = [];

    async function findCalls(): Promise<void> {
      if (calls.length > 0) return;
      await using scene = await live(() => undefined);
      calls = scene.fake.calls.slice(0, beforeLastMinutes);
      for (const wanted of ['get schedules', 'list exports', 'create exports', 'patch schedules/status', 'patch exports', 'remove exports'])
        assert.ok(
          calls.some((call) => call.startsWith(`${wanted} `) || call === wanted),
          `${wanted} is among the calls`,
        );
    }

    beforeEach(findCalls);

    for (const kind of FAULT_KINDS)
      it(`at any call that is ${kind}, no run is doubled and none is lost for good`, async () => {
        for (let broken = 0; broken < calls.length; broken += 1) {
          const message = `${kind} at ${broken}: ${calls[broken]}`;
          await using scene = await live((index) => (index === broken ? kind : undefined));
          assertWhole(scene, message);
        }
      });

    it('after a kill at any call, no run is doubled and none is lost for good', async () => {
      for (let last = 0; last < calls.length; last += 1) {
        await using scene = await live((index, { kill }) => {
          if (index !== last) return undefined;
          kill();
          return 'lost';
        });
        assertWhole(scene, `killed at ${last}: ${calls[last]}`);
      }
    });

    function assertWhole(scene: Scene, message: string): void {
      const { fake } = scene;
      const status = statusOf(scene);
      assert.equal(status.lastScheduleTime, '2026-01-01T00:06:00Z', message);
      assert.equal(status.lastSuccessfulTime, '2026-01-01T00:05:20Z', message);
      const phases = [...fake.exports.values()].map(({ status: { phase } = {} }) => phase);
      assert.deepEqual(phases.filter((phase) => phase === 'Succeeded').length, 1, message);
      assert.ok(phases.length <= 3, message);
    }
  });
});
