import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DiskState } from '../../../src/engine/observer.ts';
import { UnfinishedRuns } from '../../../src/engine/suspicion.ts';
import type { DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { createEnginePorts, type EnginePorts, type Faults, untilFinished } from '../../helpers/engine-ports.ts';
import { createManualClock, type ManualClock } from '../../helpers/manual-clock.ts';
import { until } from '../../helpers/until.ts';

/** The status that the last of so many lost runs has left. */
const lost = (count: number, sentBytes = 0): DiskExportStatus => ({
  phase: 'Streaming',
  startTime: '2026-01-01T00:00:00Z',
  disks: [{ path: 'a.img', phase: 'Streaming', attempts: 1, sentBytes }],
  unfinishedRuns: { count, sentBytes },
});

/** A random number of 0.1 gives a tenth of the ceiling, which is less than the least wait. */
const MIN_WAIT_MS = 5000;

describe('an export whose process is lost again and again', () => {
  let clock: ManualClock;
  let stop: () => Promise<void>;
  beforeEach(() => {
    clock = createManualClock();
  });
  afterEach(() => stop());

  function serve(
    faults: Faults,
    requests: [name: string, spec: Record<string, unknown>, status?: DiskExportStatus][],
    slots = 2,
  ): EnginePorts {
    const ports = createEnginePorts(faults);
    for (const request of requests) ports.add(...request);
    const served = ports.serve({ clock, maxConcurrentExports: slots });
    stop = async () => {
      served.stop();
      // The last limits of a store that does not answer.
      for (let second = 0; second < 10; second += 1) await clock.advance(1000);
      await served.ended;
    };
    return ports;
  }

  const isDone = (ports: EnginePorts, name: string) => ports.statusOf(`vms/${name}`).completionTime !== undefined;
  const countIn = (ports: EnginePorts, name: string) => ports.statusOf(`vms/${name}`).unfinishedRuns?.count;

  for (const call of ['plan 1', 'open 1', 'read 1', 'createTarget 1', 'send 1'])
    it(`has this run in its status before anything is done that may cost the process, ${call}`, async () => {
      const ports = serve({ hangsAt: call }, [['guilty', {}, lost(1)]]);
      await ports.hangs;
      assert.equal(countIn(ports, 'guilty'), 2);
    });

  it('is run again at once after two lost runs', async () => {
    const ports = serve({ hangsAt: 'send 1' }, [['guilty', {}, lost(2)]]);
    await ports.hangs;
    assert.equal(countIn(ports, 'guilty'), 3);
    assert.ok(!clock.isAwaited(MIN_WAIT_MS));
  });

  it('waits without a slot after the third, and says so; the count stays when the process is lost meanwhile', async () => {
    const ports = serve(
      {},
      [
        ['guilty', { backoffLimit: 5 }, lost(3)],
        ['innocent', {}],
      ],
      1,
    );
    await clock.untilWaiting(MIN_WAIT_MS);
    await until('the other is done', () => isDone(ports, 'innocent'));
    const { phase, message, conditions, unfinishedRuns, nextAttemptTime } = ports.statusOf('vms/guilty');
    assert.equal(nextAttemptTime, '2026-01-01T00:00:05Z');
    const said = 'waits 5 s, then runs while no other such export does: the process was lost 3 times in a row while it ran this export';
    assert.deepEqual([phase, message, unfinishedRuns], ['Pending', said, { count: 3, sentBytes: 0 }]);
    assert.equal(conditions?.find(({ type }) => type === 'Succeeded')?.reason, 'ExecutorCrashed');
    assert.ok(!ports.calls.includes('plan 2'));
    await clock.advance(MIN_WAIT_MS);
    await until('the end', () => isDone(ports, 'guilty'));
    assert.deepEqual([ports.statusOf('vms/guilty').phase, countIn(ports, 'guilty')], ['Succeeded', undefined]);
  });

  it('waits longer after each loss, and ends by a cancel in the wait', async () => {
    const ports = serve({}, [['guilty', { backoffLimit: 9 }, lost(10)]]);
    await clock.untilWaiting(30_000);
    ports.cancel('vms/guilty');
    await until('the end', () => isDone(ports, 'guilty'));
    assert.equal(ports.statusOf('vms/guilty').phase, 'Cancelled');
  });

  it('is deleted in the wait: the upload of the lost run is aborted before the object may go away', async () => {
    const status = lost(10);
    const upload = { id: 'left', partSize: 65_536, fingerprint: 'f' };
    const disks = (status.disks ?? []).map((disk) => ({ ...disk, upload }));
    const ports = serve({}, [['guilty', { backoffLimit: 9 }, { ...status, disks }]]);
    await clock.untilWaiting(30_000);
    ports.delete('vms/guilty');
    await until('its end', () => ports.get('vms/guilty') === undefined);
    const abandoned = ports.calls.indexOf('abandon 1');
    assert.ok(abandoned >= 0 && abandoned < ports.calls.indexOf('unguard 1'), ports.calls.join());
  });

  for (const [backoffLimit, losses] of [
    [0, 4],
    [2, 6],
  ] as const)
    it(`fails when the lost runs have used up backoffLimit, ${backoffLimit}`, async () => {
      const ports = serve({}, [['guilty', { backoffLimit }, lost(losses)]]);
      const { phase, message, conditions } = await untilFinished(ports, 'vms/guilty');
      assert.equal(phase, 'Failed');
      assert.match(message ?? '', new RegExp(`^the process was lost ${losses} times in a row while it ran this export; find out why`));
      assert.equal(conditions?.find(({ type }) => type === 'Succeeded')?.reason, 'ExecutorCrashed');
      assert.ok(!ports.calls.includes('plan 1'), 'nothing was done any more');
    });

  it('runs without another such export, until it has sent more than before', async () => {
    const ports = serve({ hangsAt: 'read 1' }, [
      ['guilty', { backoffLimit: 5 }, lost(3)],
      ['other', { backoffLimit: 5 }, lost(3)],
    ]);
    await clock.untilWaiting(MIN_WAIT_MS);
    await nextTurn();
    await clock.advance(MIN_WAIT_MS);
    await ports.hangs;
    for (let turn = 0; turn < 50; turn += 1) await nextTurn();
    assert.deepEqual(
      ports.calls.filter((call) => call.startsWith('plan')),
      ['plan 1'],
    );
    assert.deepEqual([countIn(ports, 'guilty'), countIn(ports, 'other')], [4, 3]);
    ports.cancel('vms/guilty');
    await until('the other is done', () => isDone(ports, 'other'));
    assert.equal(ports.statusOf('vms/other').phase, 'Succeeded');
  });

  it('has handed over in order when the process is stopped by SIGTERM', async () => {
    const ports = serve({ hangsAt: 'send 1' }, [['guilty', {}, lost(2)]]);
    await ports.hangs;
    await stop();
    assert.deepEqual([ports.ends[0]?.phase, countIn(ports, 'guilty')], ['Pending', undefined]);
  });

  it('has its count kept when the process is stopped while it waits', async () => {
    const ports = serve({}, [['guilty', { backoffLimit: 5 }, lost(4)]]);
    await clock.untilWaiting(MIN_WAIT_MS);
    await stop();
    assert.deepEqual([ports.ends[0]?.phase, countIn(ports, 'guilty')], ['Pending', 4]);
  });
});

describe('the count of unfinished runs', () => {
  const disk = (state: Partial<DiskState>): DiskState => ({
    ...{ path: 'a.img', clusterSizeBytes: 65_536, phase: 'Streaming', attempts: 1, scannedBytes: 0, readBytes: 0, sentBytes: 0 },
    ...state,
  });

  it('begins anew when a run sends more than those before, and not when it sends as much', () => {
    const runs = new UnfinishedRuns(lost(4, 1000));
    runs.begin();
    runs.observe([disk({ sentBytes: 1000 })]);
    assert.deepEqual([runs.lost, runs.status()], [4, { count: 5, sentBytes: 1000 }]);
    runs.observe([disk({ sentBytes: 1001 })]);
    assert.deepEqual([runs.lost, runs.status()], [0, { count: 1, sentBytes: 1001 }]);
    // The next attempt begins at the first byte.
    runs.observe([disk({ sentBytes: 0 })]);
    assert.deepEqual(runs.status(), { count: 1, sentBytes: 1001 });
  });

  it('does not count a run that waits for the disk, for its next attempt or for a slot', () => {
    const runs = new UnfinishedRuns();
    runs.begin();
    const failure = Object.assign(new Error('in use')) as unknown as NonNullable<DiskState['failure']>;
    for (const waits of [{ failure }, { isQueued: true }]) {
      runs.observe([disk({ phase: 'Succeeded', sentBytes: 0 }), disk({ phase: 'Pending', ...waits })]);
      assert.equal(runs.status(), undefined);
    }
    runs.observe([disk({ phase: 'Scanning', failure })]);
    assert.deepEqual(runs.status(), { count: 1, sentBytes: 0 });
  });

  it('lets two losses pass, and costs attempts after the third', () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5].map((count) => {
        const { isUnderSuspicion, costs } = new UnfinishedRuns(count === 0 ? undefined : lost(count));
        return isUnderSuspicion ? costs : 'free';
      }),
      ['free', 'free', 'free', 0, 1, 2],
    );
  });
});
