/**
 * Each call that the engine awaits may hang or fail. The export ends in every case, releases its slot, and the process
 * can end.
 */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskliftError, type ErrorCode } from '../../../src/common/errors.ts';
import type { DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { createEnginePorts, type EnginePorts, type Faults, untilFinished } from '../../helpers/engine-ports.ts';
import { until } from '../../helpers/until.ts';

/** The promised second, and another one for a busy machine. */
const LIMIT_MS = 2000;
/** Time after SIGTERM that a process waits for its store to take what no other process can make up for. */
const FAREWELL_MS = 4000;

/** Every call that concerns the disk, in order. */
const CALLS_OF_WORK = [
  'plan 1',
  ...['createTarget 1', 'check 1'],
  'open 1',
  // Before the scan, between scan and transfer, and in the seal.
  ...['identity 1', 'extents 1', 'read 1', 'identity 2', 'identity 3'],
  ...['createTarget 2', 'send 1', 'guard 1', 'read 2', 'assertHeld 1', 'commit 1', 'unguard 1'],
];

/** Every call of the store before and after these, except {@link CALLS_OF_THE_END}. */
const CALLS_OF_THE_STORE = ['watch 1', 'get 1', 'claim 1', 'get 2', 'writeStatus 1', 'unguard 2', 'release 1'];

/** The final status and the confirmation of the claim before it. */
const CALLS_OF_THE_END = ['assertHeld 2', 'writeStatus 4'];

async function msUntil(what: string, isSo: () => boolean): Promise<number> {
  const startMs = performance.now();
  await until(what, isSo);
  return performance.now() - startMs;
}

function start(
  faults: Faults,
  spec: Record<string, unknown> = {},
): { ports: EnginePorts; key: string; served: ReturnType<EnginePorts['serve']> } {
  const ports = createEnginePorts(faults);
  const key = ports.add('first', { backoffLimit: 1, ...spec });
  return { ports, key, served: ports.serve() };
}

async function stopWithin(served: ReturnType<EnginePorts['serve']>, limitMs: number, minMs = 0): Promise<void> {
  const startMs = performance.now();
  served.stop();
  await served.ended;
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs >= minMs && tookMs < limitMs, `${tookMs} ms`);
}

describe('serving requests', function () {
  this.timeout(30_000);

  it('makes exactly the calls that hang and fail in these tests', async () => {
    const { ports, key, served } = start({});
    assert.equal((await untilFinished(ports, key)).phase, 'Succeeded');
    await until('the release', () => ports.get(key)?.isClaimed === false);
    await stopWithin(served, LIMIT_MS);
    const seen = new Set(ports.calls.map((call) => call.split(' ')[0]));
    const listed = new Set(
      [...CALLS_OF_WORK, ...CALLS_OF_THE_STORE, ...CALLS_OF_THE_END, 'dispose 1', 'recordEvent 1'].map((call) => call.split(' ')[0]),
    );
    assert.deepEqual([...seen].sort(), [...listed].sort());
    assert.deepEqual(ports.warnings, []);
    assert.equal(ports.get(key)?.isGuarded, false);
  });

  describe('when a call hangs', () => {
    /** Runs all cases at the same time, because each case mostly waits. */
    async function each(calls: readonly string[], check: (hangsAt: string) => Promise<void>): Promise<void> {
      await Promise.all(
        calls.map((call) =>
          check(call).catch((error: unknown) => {
            throw new Error(`${call}: ${error instanceof Error ? error.message : error}`, { cause: error });
          }),
        ),
      );
    }

    it('ends within a second by a cancel, and releases its slot', () => each(CALLS_OF_WORK, endByCancel));
    it('ends within a second by the deadline', () => each(CALLS_OF_WORK, endByDeadline));
    it('ends within a second by SIGTERM', () => each(CALLS_OF_WORK, endBySignal));

    /** The next export gets the slot even while a hanging store delays the final status. */
    async function endByCancel(hangsAt: string): Promise<void> {
      const { ports, key, served } = start({ hangsAt });
      const next = ports.add('second');
      await ports.hangs;
      ports.cancel(key);
      const tookMs = await msUntil('the end', () => ports.ends.length > 0);
      assert.ok(tookMs < LIMIT_MS, `${tookMs} ms`);
      assert.deepEqual([ports.ends[0]?.key, ports.ends[0]?.phase, ports.ends[0]?.failure?.code], [key, 'Cancelled', 'Cancelled']);
      assert.equal((await untilFinished(ports, next)).phase, 'Succeeded');
      assert.equal((await untilFinished(ports, key)).phase, 'Cancelled');
      await stopWithin(served, LIMIT_MS);
    }

    async function endByDeadline(hangsAt: string): Promise<void> {
      const { ports, key, served } = start({ hangsAt }, { activeDeadlineSeconds: 2 });
      await ports.hangs;
      const tookMs = await msUntil('the end', () => ports.ends.length > 0);
      assert.ok(tookMs < 2000 + LIMIT_MS, `${tookMs} ms`);
      const { phase, conditions } = await untilFinished(ports, key);
      assert.deepEqual([phase, conditions?.find(({ type }) => type === 'Succeeded')?.reason], ['Failed', 'DeadlineExceeded']);
      await stopWithin(served, LIMIT_MS);
    }

    async function endBySignal(hangsAt: string): Promise<void> {
      const { ports, served } = start({ hangsAt });
      await ports.hangs;
      await stopWithin(served, LIMIT_MS);
      assert.equal(ports.ends[0]?.phase, 'Pending', 'another process continues it');
    }

    it('ends within a second after SIGTERM, for each call of the store but those of the end', () =>
      each(CALLS_OF_THE_STORE, async (hangsAt) => {
        const { ports, served } = start({ hangsAt });
        await ports.hangs;
        await stopWithin(served, LIMIT_MS);
      }));

    it('waits four seconds after SIGTERM for what no other process can make up for', () =>
      each(CALLS_OF_THE_END, async (hangsAt) => {
        const { ports, served } = start({ hangsAt });
        await ports.hangs;
        await stopWithin(served, FAREWELL_MS + LIMIT_MS, FAREWELL_MS - 50);
      }));

    it('waits as long for the release of an export whose clean-up is pending', async () => {
      const { ports, served } = start({ hangsAt: 'release 1', failsAlways: { unguard: refused() } });
      await ports.hangs;
      await stopWithin(served, FAREWELL_MS + LIMIT_MS, FAREWELL_MS - 50);
    });

    it('succeeds although an exported disk cannot be closed, after the limit of that wait', async () => {
      const { ports, key, served } = start({ hangsAt: 'dispose 1' });
      await ports.hangs;
      assert.equal(ports.disks.get(key)?.phase, 'Succeeded');
      ports.cancel(key);
      assert.equal((await untilFinished(ports, key)).phase, 'Succeeded');
      await stopWithin(served, LIMIT_MS);
    });

    it('does not wait for an event that is not accepted', async () => {
      const { ports, key, served } = start({ hangsAt: 'recordEvent 1' });
      assert.equal((await untilFinished(ports, key)).phase, 'Succeeded');
      await stopWithin(served, LIMIT_MS);
    });

    it('stops aborting the upload of a cancelled export at SIGTERM', async () => {
      const { ports, key, served } = start({ hangsAt: 'abandon 1', fails: { 'commit 1': unreachable() } });
      await until('the first attempt has failed', () => ports.calls.includes('commit 1'));
      ports.cancel(key);
      await ports.hangs;
      await stopWithin(served, LIMIT_MS);
      assert.equal(ports.statusOf(key).phase, 'Cancelled');
      assert.equal(ports.statusOf(key).disks?.[0]?.upload?.id, 'upload', 'the next process drops it');
    });

    it('releases a claim that arrives after its limit', async () => {
      const late = Promise.withResolvers<void>();
      const releases: string[] = [];
      const { limitStoreCalls } = await import('../../../src/engine/time-limited-store.ts');
      const { systemClock } = await import('../../../src/common/clock.ts');
      const stop = new AbortController();
      const claim = { lost: new AbortController().signal, assertHeld: async () => {}, release: async () => void releases.push('vms/a') };
      const store = { claim: () => late.promise.then(() => claim) } as never;
      const limited = limitStoreCalls(store, { clock: systemClock, stopping: stop.signal, observers: [], warn: assert.fail });
      const claiming = limited.claim('vms/a');
      stop.abort(new DiskliftError('ExecutorLost', 'stopped'));
      await assert.rejects(claiming, { code: 'ExecutorLost' });
      late.resolve();
      await until('its release', () => releases.length === 1);
      limited.close();
    });
  });

  describe('when a call fails', () => {
    const transient: [string, ErrorCode, number][] = [
      ['open 1', 'SourceReadError', 2],
      ['identity 1', 'SourceReadError', 2],
      ['identity 2', 'SourceReadError', 2],
      ['identity 3', 'SourceReadError', 2],
      ['extents 1', 'SourceReadError', 2],
      ['read 1', 'SourceReadError', 2],
      ['read 2', 'SourceReadError', 2],
      ['createTarget 1', 'DestinationUnreachable', 2],
      ['check 1', 'DestinationUnreachable', 2],
      ['createTarget 2', 'DestinationUnreachable', 2],
      ['send 1', 'DestinationUnreachable', 2],
      ['commit 1', 'DestinationUnreachable', 2],
      // Failures of the store count only during an attempt, and only if they do not pass by themselves.
      ['guard 1', 'StoreRefused', 2],
      ['guard 1', 'StoreUnavailable', 1],
      ['unguard 1', 'StoreRefused', 1],
      ['writeStatus 1', 'StoreUnavailable', 1],
      ['writeStatus 3', 'StoreRefused', 1],
      ['get 1', 'StoreUnavailable', 1],
      ['claim 1', 'StoreRefused', 1],
      ['assertHeld 1', 'ExecutorLost', 1],
      ['assertHeld 2', 'ExecutorLost', 1],
      ['release 1', 'StoreUnavailable', 1],
      ['recordEvent 1', 'StoreRefused', 1],
    ];
    for (const [call, code, attempts] of transient)
      it(`arrives in ${attempts === 1 ? 'the first attempt' : 'the second'}: ${call}, ${code}`, async () => {
        const failure = new DiskliftError(code, `${call} fails`, undefined, code === 'ExecutorLost' ? {} : { retryable: true });
        const { ports, key, served } = start({ fails: { [call]: failure } });
        const status = await untilFinished(ports, key);
        assert.deepEqual([status.phase, status.attempts], ['Succeeded', attempts], JSON.stringify(ports.calls));
        await stopWithin(served, LIMIT_MS);
        assert.equal(ports.get(key)?.isGuarded, false);
      });

    const final: [string, ErrorCode][] = [
      ['plan 1', 'SourceNotFound'],
      ['open 1', 'SourcePermissionDenied'],
      ['createTarget 1', 'CredentialsInvalid'],
      ['check 1', 'CredentialsInvalid'],
      ['send 1', 'DestinationRejected'],
    ];
    for (const [call, code] of final)
      it(`fails for that reason, and serves the next: ${call}, ${code}`, async () => {
        const { ports, key, served } = start({ fails: { [call]: new DiskliftError(code, `${call} fails`) } });
        const next = ports.add('second');
        const { phase, conditions } = await untilFinished(ports, key);
        assert.deepEqual([phase, conditions?.find(({ type }) => type === 'Succeeded')?.reason], ['Failed', code]);
        assert.equal((await untilFinished(ports, next)).phase, 'Succeeded');
        await stopWithin(served, LIMIT_MS);
      });

    it('backs off from a store that refuses, shows and counts the attempts, and fails in the end', async () => {
      const refused = new DiskliftError('StoreRefused', 'patch diskexports vms/first: the API server does not allow it');
      const { ports, key, served } = start({ failsAlways: { guard: refused } });
      await until('the second attempt', () => ports.disks.get(key)?.attempts === 2);
      const { phase, attempts, message, conditions } = await untilFinished(ports, key);
      assert.deepEqual([phase, attempts], ['Failed', 2]);
      assert.match(message ?? '', /does not allow it \(after 2 attempts\)/);
      assert.equal(conditions?.find(({ type }) => type === 'Succeeded')?.reason, 'StoreRefused');
      assert.equal(ports.calls.filter((call) => call.startsWith('claim')).length, 1);
      await stopWithin(served, LIMIT_MS);
    });

    it('pauses a request that the store refuses before the first attempt, and gives the reason in the status', async () => {
      const refused = new DiskliftError('StoreRefused', 'patch diskexports vms/left: the API server does not allow it');
      const ports = createEnginePorts({ failsAlways: { guard: refused } });
      const upload = { id: 'upload', partSize: 5_242_880, fingerprint: 'f' };
      const key = ports.add(
        'left',
        {},
        { phase: 'Streaming', startTime: '2026-01-01T00:00:00Z', disks: [{ path: 'a.img', attempts: 1, upload }] },
      );
      const served = ports.serve();
      await sleep(1500);
      const claims = ports.calls.filter((call) => call.startsWith('claim')).length;
      assert.ok(claims >= 2 && claims <= 6, `${claims} claims`);
      const { phase, conditions, message, disks } = ports.statusOf(key);
      assert.deepEqual([phase, conditions?.find(({ type }) => type === 'Succeeded')?.reason], ['Pending', 'StoreRefused']);
      assert.match(message ?? '', /^will run again: .*does not allow it$/);
      assert.equal(disks?.[0]?.upload?.id, 'upload', 'what an earlier process holds open is not forgotten');
      assert.ok(ports.warnings.some((warning) => warning.includes('does not allow it')));
      await stopWithin(served, LIMIT_MS);
    });

    it('ends an export with a brief status, and with its receipt, where the store refuses the full one', async () => {
      const { ports, key, served } = start({ refusesStatus: ({ progress }) => progress !== undefined });
      const { phase, completionTime, disks, conditions } = await untilFinished(ports, key);
      assert.deepEqual([phase, disks?.[0]?.location, disks?.[0]?.phase], ['Succeeded', 'memory', 'Succeeded']);
      assert.ok(completionTime !== undefined && /^[0-9a-f]{64}$/.test(disks?.[0]?.sha256 ?? ''));
      assert.deepEqual(
        conditions?.map(({ type, status }) => `${type} ${status}`),
        ['Succeeded True', 'Finished True', 'Progressing False'],
      );
      assert.equal(ports.warnings.filter((warning) => warning.includes('a shorter one is written')).length, 1);
      await until('the release', () => ports.get(key)?.isClaimed === false);
      assert.equal(ports.get(key)?.isGuarded, false);
      await stopWithin(served, LIMIT_MS);
    });

    it('ends an export without its receipts where the store accepts nothing else', async () => {
      const { ports, key, served } = start({
        refusesStatus: ({ disks = [] }) => disks.some(({ location }) => location !== undefined),
      });
      const { phase, disks } = await untilFinished(ports, key);
      assert.deepEqual([phase, disks], ['Succeeded', undefined]);
      await stopWithin(served, LIMIT_MS);
    });

    it('sends an image once whose end the store refuses to record, keeps its claim, and gives the slot to the next export', async () => {
      let isStrict = true;
      let refusals = 0;
      const refusesStatus = ({ completionTime }: DiskExportStatus) => {
        if (!isStrict || completionTime === undefined) return false;
        refusals += 1;
        return true;
      };
      const { ports, key, served } = start({ refusesStatus });
      await until('the end', () => ports.ends.length > 0);
      const refusalsOfTheEnd = refusals;
      await until('two more tries to record it', () => refusals > 3 * refusalsOfTheEnd);
      assert.equal(ports.get(key)?.isClaimed, true);
      const next = ports.add('second');
      await until('the end of the next', () => ports.ends.some((end) => end.key === next));
      assert.deepEqual(
        ports.calls.filter((call) => call.startsWith('commit')),
        ['commit 1', 'commit 2'],
      );
      isStrict = false;
      for (const each of [key, next]) assert.equal((await untilFinished(ports, each)).phase, 'Succeeded');
      await until('the release', () => ports.get(key)?.isClaimed === false);
      assert.equal(ports.get(key)?.isGuarded, false);
      assert.deepEqual(
        ports.ends.map((end) => [end.key, end.phase]),
        [
          [key, 'Succeeded'],
          [next, 'Succeeded'],
        ],
      );
      await stopWithin(served, LIMIT_MS);
    });

    it('does not record an end behind a lost claim, because another process may have replaced the image', async () => {
      const refusesStatus = ({ completionTime }: DiskExportStatus) => {
        const losesNow = completionTime !== undefined && !ports.calls.includes('claim 2');
        if (losesNow) ports.lose('vms/first');
        return losesNow;
      };
      const { ports, key, served } = start({ refusesStatus });
      assert.equal((await untilFinished(ports, key)).phase, 'Succeeded');
      assert.ok(ports.calls.includes('commit 2'), ports.calls.join());
      await stopWithin(served, LIMIT_MS);
    });

    it('sends again an image whose end waits to be recorded when another process takes the claim', async () => {
      let isStrict = true;
      const { ports, key, served } = start({ refusesStatus: ({ completionTime }) => isStrict && completionTime !== undefined });
      await until('the end', () => ports.ends.length > 0);
      isStrict = false;
      ports.lose(key);
      assert.equal((await untilFinished(ports, key)).phase, 'Succeeded');
      assert.ok(ports.calls.includes('commit 2'), ports.calls.join());
      await stopWithin(served, LIMIT_MS);
    });

    it('gives back the claim of an end that is not recorded when the process stops', async () => {
      const { ports, key, served } = start({ refusesStatus: ({ completionTime }) => completionTime !== undefined });
      await until('the end', () => ports.ends.length > 0);
      await stopWithin(served, LIMIT_MS);
      assert.equal(ports.get(key)?.isClaimed, false);
    });

    it('cleans up a deleted request whose end is not recorded', async () => {
      const { ports, key, served } = start({ refusesStatus: ({ completionTime }) => completionTime !== undefined });
      await until('the end', () => ports.ends.length > 0);
      ports.delete(key);
      await until('the object is gone', () => ports.get(key) === undefined);
      await stopWithin(served, LIMIT_MS);
    });

    it('sends nothing, and asks seldom, where the store refuses every status', async () => {
      const { ports, served } = start({ refusesStatus: () => true });
      await sleep(1500);
      const count = (name: string) => ports.calls.filter((call) => call.startsWith(name)).length;
      assert.ok(count('claim') >= 2 && count('claim') <= 6, `${count('claim')} claims`);
      assert.ok(count('writeStatus') <= 6 * count('claim'), `${count('writeStatus')} writes`);
      assert.equal(count('plan'), 0);
      await stopWithin(served, LIMIT_MS);
    });

    it('drops an upload that the store refuses to record', async () => {
      const { ports, key, served } = start({ refusesStatus: ({ disks = [] }) => disks.some(({ upload }) => upload !== undefined) });
      const { phase, conditions } = await untilFinished(ports, key);
      assert.deepEqual([phase, conditions?.find(({ type }) => type === 'Succeeded')?.reason], ['Failed', 'StoreRefused']);
      assert.ok(ports.calls.includes('abandon 1') && !ports.calls.includes('commit 1'));
      await stopWithin(served, LIMIT_MS);
    });

    it('pauses a request whose claim is lost each time', async () => {
      const lost = new DiskliftError('ExecutorLost', 'the lock cannot be renewed');
      const { ports, served } = start({ failsAlways: { assertHeld: lost } });
      await sleep(1500);
      const claims = ports.calls.filter((call) => call.startsWith('claim')).length;
      assert.ok(claims >= 2 && claims <= 6, `${claims} claims`);
      await stopWithin(served, LIMIT_MS);
    });

    it('starts a request at once that is cancelled during such a pause, and pauses it again after another failure', async () => {
      const refused = new DiskliftError('StoreRefused', 'no', undefined, { retryAfterMs: 60_000 });
      const { ports, key, served } = start({ failsAlways: { claim: refused } });
      await until('the first claim', () => ports.calls.includes('claim 1'));
      await sleep(50);
      ports.cancel(key);
      await until('the second claim', () => ports.calls.includes('claim 2'));
      ports.cancel(key);
      await sleep(100);
      assert.ok(!ports.calls.includes('claim 3'));
      await stopWithin(served, LIMIT_MS);
    });

    it('waits as long as the store requires', async () => {
      const busy = new DiskliftError('StoreUnavailable', 'HTTP 429', undefined, { retryAfterMs: 700 });
      const { ports, key, served } = start({ fails: { 'claim 1': busy } });
      const tookMs = await msUntil('the second claim', () => ports.calls.includes('claim 2'));
      assert.ok(tookMs >= 690, `${tookMs} ms`);
      assert.equal((await untilFinished(ports, key)).phase, 'Succeeded');
      await stopWithin(served, LIMIT_MS);
    });

    it('retries the removal of an expired request', async () => {
      const { ports, key, served } = start(
        { fails: { 'remove 1': new DiskliftError('StoreUnavailable', 'away') } },
        { ttlSecondsAfterFinished: 0 },
      );
      await until('its removal', () => ports.get(key) === undefined);
      assert.ok(ports.warnings.some((warning) => warning === 'cannot be removed: away'));
      await stopWithin(served, LIMIT_MS);
    });
  });
});

function refused(): DiskliftError {
  return new DiskliftError('StoreRefused', 'patch diskexports vms/first: the API server does not allow it');
}

function unreachable(): DiskliftError {
  return new DiskliftError('DestinationUnreachable', 'the peer is away');
}
