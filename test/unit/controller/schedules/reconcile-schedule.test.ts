import assert from 'node:assert/strict';
import { reconcileSchedule, type SchedulePlan } from '../../../../src/controller/schedules/reconcile-schedule.ts';
import type { ExportObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { type ExportFacts, exportObject, nameOf, scheduleObject, UID } from './schedule-scene.ts';

interface Case {
  sentence: string;
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
  exports?: readonly ExportFacts[];
  now: string;
  startedMs?: number;
  /** Scheduled time of the export that is created. */
  creates?: string;
  cancels?: readonly string[];
  removes?: readonly string[];
  /** Reasons of the events. */
  events?: readonly string[];
}

function plan({ spec, status, exports = [], now, startedMs }: Omit<Case, 'sentence'>, others: readonly ExportObject[] = []): SchedulePlan {
  const schedule = scheduleObject(spec, status === undefined ? {} : { status });
  return reconcileSchedule({ schedule, exports: [...exports.map(exportObject), ...others], nowMs: Date.parse(now), startedMs });
}

function conditionOf({ status }: SchedulePlan, type: string): Record<string, unknown> {
  return { ...status.conditions?.find((condition) => condition.type === type) };
}

const ran = (day: number, phase: ExportFacts['phase'] = 'Succeeded'): ExportFacts => ({
  scheduledTime: `2026-01-0${day}T02:00:00Z`,
  ...(phase === undefined ? {} : { phase }),
});
const at = (day: number) => `2026-01-0${day}T02:00:00Z`;

const CASES: readonly Case[] = [
  { sentence: 'nothing before the first time', now: '2026-01-01T01:59:59Z' },
  { sentence: 'the first export at its time', now: at(1), creates: at(1) },
  { sentence: 'nothing when the export of the last time exists', exports: [ran(1, 'Pending')], now: '2026-01-01T02:00:01Z' },
  { sentence: 'nothing when the status has the last time', status: { lastScheduleTime: at(1) }, now: '2026-01-01T03:00:00Z' },
  {
    sentence: 'nothing when this process has just started the run, which the copies do not show yet',
    startedMs: Date.parse(at(1)),
    now: '2026-01-01T02:00:01Z',
  },
  {
    sentence: 'only the last of several missed runs',
    status: { lastScheduleTime: at(1) },
    now: '2026-01-05T12:00:00Z',
    creates: at(5),
    events: ['RunMissed'],
  },
  {
    sentence: 'one run after more than 100 missed ones',
    spec: { schedule: '* * * * *' },
    status: { lastScheduleTime: at(1) },
    now: '2026-01-08T12:00:30Z',
    creates: '2026-01-08T12:00:00Z',
    events: ['RunMissed'],
  },
  {
    sentence: 'a missed run within startingDeadlineSeconds',
    spec: { startingDeadlineSeconds: 3600 },
    status: { lastScheduleTime: at(1) },
    now: '2026-01-02T03:00:00Z',
    creates: at(2),
  },
  {
    sentence: 'no missed run after startingDeadlineSeconds',
    spec: { startingDeadlineSeconds: 3600 },
    status: { lastScheduleTime: at(1) },
    now: '2026-01-02T03:00:01Z',
    events: ['RunMissed'],
  },
  { sentence: 'nothing while it is suspended', spec: { suspend: true }, now: at(3) },
  {
    sentence: 'nothing while an earlier export runs, by default',
    exports: [ran(1, 'Pending')],
    now: at(2),
    events: ['RunWaits'],
  },
  {
    sentence: 'the waiting run once the earlier export has ended',
    exports: [ran(1, 'Failed')],
    now: '2026-01-02T05:00:00Z',
    creates: at(2),
  },
  {
    sentence: 'nothing while an earlier export is being deleted',
    exports: [{ ...ran(1, 'Pending'), isTerminating: true }],
    now: at(2),
    events: ['RunWaits'],
  },
  {
    sentence: 'an export beside an earlier one with Allow',
    spec: { concurrencyPolicy: 'Allow' },
    exports: [ran(1, 'Pending')],
    now: at(2),
    creates: at(2),
  },
  {
    sentence: 'a cancellation first with Replace',
    spec: { concurrencyPolicy: 'Replace' },
    exports: [ran(1, 'Pending')],
    now: at(2),
    cancels: [at(1)],
    events: ['RunWaits'],
  },
  {
    sentence: 'nothing while the cancelled export has not ended, with Replace',
    spec: { concurrencyPolicy: 'Replace' },
    exports: [{ ...ran(1, 'Pending'), cancel: true }],
    now: '2026-01-02T02:00:05Z',
    events: ['RunWaits'],
  },
  {
    sentence: 'the run when the cancelled export has ended, with Replace',
    spec: { concurrencyPolicy: 'Replace' },
    exports: [{ ...ran(1, 'Cancelled'), cancel: true }],
    now: '2026-01-02T02:00:09Z',
    creates: at(2),
  },
  {
    sentence: 'no cancellation when no run is due',
    spec: { concurrencyPolicy: 'Replace' },
    exports: [ran(1, 'Pending')],
    now: '2026-01-01T09:00:00Z',
  },
  {
    sentence: 'deletions of the oldest successes beyond the limit',
    exports: [ran(1), ran(5), ran(3), ran(2), ran(4)],
    now: '2026-01-05T09:00:00Z',
    removes: [at(2), at(1)],
  },
  {
    sentence: 'deletions of failed and cancelled exports beyond their limit, and of no unfinished one',
    spec: { concurrencyPolicy: 'Allow' },
    exports: [ran(1, 'Pending'), ran(2, 'Failed'), ran(3, 'Cancelled'), ran(4, 'Failed'), ran(5, 'Pending')],
    now: '2026-01-05T09:00:00Z',
    removes: [at(3), at(2)],
  },
  {
    sentence: 'deletions of all finished exports with limits of 0',
    spec: { successfulExportsHistoryLimit: 0, failedExportsHistoryLimit: 0 },
    exports: [ran(1, 'Failed'), ran(2)],
    now: '2026-01-02T09:00:00Z',
    removes: [at(2), at(1)],
  },
  {
    sentence: 'no second deletion of an export that is being deleted',
    spec: { successfulExportsHistoryLimit: 0 },
    exports: [{ ...ran(1), isTerminating: true }],
    now: '2026-01-01T09:00:00Z',
  },
  {
    sentence: 'deletions while it is suspended, too',
    spec: { suspend: true, successfulExportsHistoryLimit: 1 },
    exports: [ran(1), ran(2)],
    now: '2026-01-04T09:00:00Z',
    removes: [at(1)],
  },
  {
    sentence: 'an export whose time an edited annotation has put into the future counts for nothing',
    exports: [{ scheduledTime: '2026-06-01T02:00:00Z', phase: 'Failed', completionTime: at(1) }],
    now: at(2),
    creates: at(2),
    events: ['RunMissed'],
  },
];

describe('a decision about a schedule', () => {
  for (const { sentence, creates, cancels = [], removes = [], events = [], ...observed } of CASES)
    it(`is ${sentence}`, () => {
      const { create, cancel, remove, ...decided } = plan(observed);
      const names = (times: readonly string[]) => times.map(nameOf);
      assert.equal(create?.metadata.name, creates === undefined ? undefined : nameOf(creates));
      assert.deepEqual(
        cancel.map(({ name }) => name),
        names(cancels),
      );
      assert.deepEqual(
        remove.map(({ name }) => name),
        names(removes),
      );
      assert.deepEqual(
        decided.events.map(({ reason }) => reason),
        events,
      );
    });

  it('makes an export of the template, with label, annotation and owner', () => {
    const { create, status } = plan({ now: '2026-01-01T02:00:07Z' });
    assert.deepEqual(create, {
      apiVersion: 'disklift.dev/v1alpha1',
      kind: 'DiskExport',
      metadata: {
        name: 'nightly-29453880',
        namespace: 'vms',
        labels: { team: 'storage', 'disklift.dev/schedule': 'nightly' },
        annotations: { note: 'nightly', 'disklift.dev/scheduled-time': '2026-01-01T02:00:00Z' },
        ownerReferences: [{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExportSchedule', name: 'nightly', uid: UID }],
      },
      spec: create?.spec,
    });
    assert.partialDeepStrictEqual(create?.spec, { source: { persistentVolumeClaim: { claimName: 'fedora-root' } } });
    assert.partialDeepStrictEqual(status, {
      active: ['nightly-29453880'],
      activeCount: 1,
      lastScheduleTime: '2026-01-01T02:00:00Z',
      nextScheduleTime: '2026-01-02T02:00:00Z',
      observedGeneration: 1,
    });
  });

  it('does not count exports of a deleted schedule of the same name', () => {
    const { create, remove, status } = plan({
      spec: { successfulExportsHistoryLimit: 0 },
      exports: [
        { ...ran(1, 'Pending'), owner: 'another' },
        { ...ran(2), owner: 'another' },
      ],
      now: at(3),
      status: { lastScheduleTime: at(2) },
    });
    assert.equal(create?.metadata.name, nameOf(at(3)));
    assert.deepEqual([remove, status.activeCount, status.lastSuccessfulTime], [[], 1, undefined]);
  });

  it('keeps the last success when its export is deleted, and ignores an older one', () => {
    const { status } = plan({ exports: [ran(1)], now: '2026-01-05T09:00:00Z', status: { lastSuccessfulTime: '2026-01-04T02:30:00Z' } });
    assert.equal(status.lastSuccessfulTime, '2026-01-04T02:30:00Z');
    assert.equal(plan({ exports: [ran(4)], now: '2026-01-05T01:00:00Z' }).status.lastSuccessfulTime, '2026-01-04T02:30:00Z');
  });

  it('names at most 100 unfinished exports, and counts them all', () => {
    const facts = Array.from({ length: 120 }, (_, minute) => ({ scheduledTime: new Date(Date.UTC(2026, 0, 2, 0, minute)).toISOString() }));
    const { status } = plan({ spec: { concurrencyPolicy: 'Allow', suspend: true }, exports: facts, now: '2026-01-02T03:00:00Z' });
    assert.deepEqual([status.active?.length, status.activeCount], [100, 120]);
  });

  describe('has the condition UpToDate', () => {
    const cases: [string, Omit<Case, 'sentence'>, string, string][] = [
      ['Unknown before the first run had its time', { now: '2026-01-01T13:59:59Z' }, 'Unknown', 'NoSuccessYet'],
      ['False when the first run has not succeeded in its time', { now: '2026-01-01T14:00:00Z' }, 'False', 'Overdue'],
      ['True until half a day after the next run', { exports: [ran(1)], now: '2026-01-02T13:59:59Z' }, 'True', 'ExportSucceeded'],
      ['False after that', { exports: [ran(1)], now: '2026-01-02T14:00:00Z' }, 'False', 'Overdue'],
      ['False after that, while it is suspended too', { spec: { suspend: true }, exports: [ran(1)], now: at(4) }, 'False', 'Overdue'],
      [
        'False a day after a weekly run',
        { spec: { schedule: '0 2 * * 4' }, exports: [ran(1)], now: '2026-01-09T02:00:00Z' },
        'False',
        'Overdue',
      ],
      [
        'True for ten minutes after a run of every minute',
        { spec: { schedule: '* * * * *' }, exports: [ran(1)], now: '2026-01-01T02:40:59Z' },
        'True',
        'ExportSucceeded',
      ],
    ];
    for (const [sentence, observed, status, reason] of cases)
      it(sentence, () => {
        assert.partialDeepStrictEqual(conditionOf(plan(observed), 'UpToDate'), { status, reason });
      });

    it('with the time at which that changes', () => {
      const { state, requeueAfterMs } = plan({ spec: { suspend: true }, exports: [ran(1)], now: '2026-01-02T13:00:00Z' });
      assert.equal(state.overdueMs, Date.parse('2026-01-02T14:00:00Z'));
      assert.equal(state.nextMs, undefined);
      assert.equal(requeueAfterMs, 3_600_000);
    });
  });

  const problems: [string, Record<string, unknown>, string][] = [
    ['a schedule that cannot be read', { schedule: '5-1 * * * *' }, 'InvalidSchedule'],
    ['a time zone that does not exist', { timeZone: 'Europe/Nowhere' }, 'UnknownTimeZone'],
    ['a spec of another version', { exportTemplate: 7 }, 'InvalidSchedule'],
  ];
  for (const [what, spec, reason] of problems)
    it(`of ${what} creates and deletes nothing, and is overdue at once`, () => {
      const now = '2026-01-05T09:00:00Z';
      const decided = plan({ spec: { ...spec, successfulExportsHistoryLimit: 0 }, exports: [ran(1), ran(2, 'Pending')], now });
      assert.deepEqual([decided.create, decided.cancel, decided.remove, decided.requeueAfterMs], [undefined, [], [], undefined]);
      assert.partialDeepStrictEqual(conditionOf(decided, 'Ready'), { status: 'False', reason, lastTransitionTime: now });
      assert.partialDeepStrictEqual(conditionOf(decided, 'UpToDate'), { status: 'False', reason });
      assert.partialDeepStrictEqual(decided.state, { lastSuccessMs: Date.parse('2026-01-01T02:30:00Z'), overdueMs: Date.parse(now) });
      assert.deepEqual(
        decided.events.map((event) => event.reason),
        [reason],
      );
      const later = plan({ spec, exports: [ran(1)], now: at(7), status: { ...decided.status } });
      assert.equal(later.state.overdueMs, Date.parse(now), 'the time at which it was found does not move');
    });

  it('after a refusal creates nothing, and the reason is in the condition Ready', () => {
    const refusal = { reason: 'ExportRefused', message: 'exceeded quota' };
    const { create, status } = reconcileSchedule({ schedule: scheduleObject(), exports: [], nowMs: Date.parse(at(1)), refusal });
    assert.deepEqual([create, status.activeCount, status.lastScheduleTime], [undefined, 0, undefined]);
    assert.partialDeepStrictEqual(status.conditions, [{ type: 'Ready', status: 'False', ...refusal }]);
  });

  it('has a status that is the same at the next look, so that nothing is written', () => {
    const observed = { exports: [ran(1)], now: '2026-01-01T09:00:00Z' };
    const { status } = plan(observed);
    assert.deepEqual(plan({ ...observed, now: '2026-01-01T09:10:00Z', status: { ...status } }).status, status);
  });

  it('ignores a status that another program has damaged', () => {
    const { create } = plan({ now: at(1), status: { lastScheduleTime: 7, conditions: 'none' } });
    assert.equal(create?.metadata.name, nameOf(at(1)));
  });
});
