import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { Claim } from '../../../../src/stores/contract.ts';
import type { LeaseObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { leaseTimesOf } from '../../../../src/stores/kubernetes/leases/lease-claim.ts';
import {
  createLeaseClaims,
  createLeaseHolder,
  type LeaseClaims,
  type LeaseTarget,
} from '../../../../src/stores/kubernetes/leases/lease-claims.ts';
import type { ProcessIdentity } from '../../../../src/stores/process-identity.ts';
import { createFakeLeases, type FakeLeases, refused, unanswered } from '../../../helpers/fake-leases.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';

const DURATION_MS = 30_000;
const RENEW_MS = 10_000;
const DEADLINE_MS = 20_000;

const TARGET: LeaseTarget = {
  namespace: 'vms',
  name: 'disklift-u1',
  owner: { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', name: 'fedora', uid: 'u1' },
  isTerminating: false,
};

interface Process {
  claims: LeaseClaims;
  clock: ManualClock;
  /** Time passes, and the process does not notice: it was stopped and continued. */
  standStill(delayMs: number): void;
  ending: AbortController;
}

const ExecutorLost = { code: 'ExecutorLost' };

describe('lease claim', () => {
  let leases: FakeLeases;
  let processes: Process[];
  beforeEach(() => {
    leases = createFakeLeases();
    processes = [];
  });

  /** Each has a clock of its own, because a process may stand still while others go on. */
  function start(holder: string, run?: { instance: string; identity: ProcessIdentity }): Process {
    const [clock, ending] = [createManualClock(), new AbortController()];
    let stoodMs = 0;
    const standStill = (delayMs: number) => {
      stoodMs += delayMs;
    };
    const own = { ...clock, monotonicMs: () => clock.monotonicMs() + stoodMs };
    const self = run && createLeaseHolder({ holder, instance: run.instance, identify: async () => run.identity });
    const options = { leases, clock: own, holder, self, times: leaseTimesOf(30), random: () => 0.5, ending: ending.signal };
    const started = { claims: createLeaseClaims(options), clock, ending, standStill };
    processes.push(started);
    return started;
  }

  /** Time passes for all. */
  async function pass(delayMs: number, ...whom: Process[]): Promise<void> {
    for (let leftMs = delayMs; leftMs > 0; leftMs -= 1000)
      for (const { clock } of whom.length > 0 ? whom : processes) {
        await clock.advance(Math.min(1000, leftMs));
        for (let turn = 0; turn < 10; turn += 1) await nextTurn();
      }
  }

  async function acquire({ claims }: Process): Promise<Claim> {
    return (await claims.acquire(TARGET)) ?? assert.fail('the Lease is another’s');
  }

  const lease = (): LeaseObject => leases.objects.get('vms/disklift-u1') ?? assert.fail('there is no Lease');

  it('makes a Lease that belongs to the export and says who holds it', async () => {
    const a = start('a');
    await acquire(a);
    assert.partialDeepStrictEqual(lease(), {
      metadata: { ownerReferences: [TARGET.owner] },
      spec: { holderIdentity: 'a', leaseDurationSeconds: 30, leaseTransitions: 0, renewTime: '2026-01-01T00:00:00.000000Z' },
    });
    assert.deepEqual(leases.calls, ['create']);
  });

  it('has one holder of several who ask at once', async () => {
    const claims = await Promise.all(['a', 'b', 'c'].map((holder) => start(holder).claims.acquire(TARGET)));
    assert.equal(claims.filter((claim) => claim !== undefined).length, 1);
  });

  it('renews as long as the work lasts, and is nobody else’s then', async () => {
    const [a, b] = [start('a'), start('b')];
    const claim = await acquire(a);
    for (let round = 0; round < 20; round += 1) {
      assert.equal(await b.claims.acquire(TARGET), undefined);
      await pass(RENEW_MS);
    }
    await claim.assertHeld();
    assert.equal(leases.calls.filter((call) => call === 'replace').length, 20);
  });

  it('is taken over when its holder shows no life for as long as it holds, and not before', async () => {
    const [a, b] = [start('a'), start('b')];
    await acquire(a);
    assert.equal(await b.claims.acquire(TARGET), undefined);
    await pass(DURATION_MS - 1000, b);
    assert.equal(await b.claims.acquire(TARGET), undefined);
    await pass(1000, b);
    await (await acquire(b)).assertHeld();
    assert.partialDeepStrictEqual(lease().spec, { holderIdentity: 'b', leaseTransitions: 1 });
  });

  describe('that a killed container has left', () => {
    const runOf = (run: string, { podUid = 'p1', name = 'disklift', instance = 'pod', pidNamespace = run } = {}) => ({
      instance,
      identity: { pid: 1, startTicks: '7', pidNamespace, bootId: 'boot', container: { podUid, name, run } },
    });

    it('is taken over at once by the next run of the same container, and by one of them alone', async () => {
      await acquire(start('a', runOf('1')));
      await acquire(start('b', runOf('2')));
      assert.partialDeepStrictEqual(lease().spec, { holderIdentity: 'b', leaseTransitions: 1 });
      assert.match(lease().metadata.annotations?.['disklift.dev/holder'] ?? '', /"holder":"b".*"run":"2"/);
      const claims = await Promise.all(['c', 'd', 'e'].map((holder) => start(holder, runOf('3')).claims.acquire(TARGET)));
      assert.equal(claims.filter((claim) => claim !== undefined).length, 1);
    });

    for (const [what, other] of [
      ['another container of the pod', runOf('2', { name: 'copy' })],
      ['a pod with the same name and another UID', runOf('2', { podUid: 'p2' })],
      ['the same run of the container', runOf('1', { pidNamespace: 'inner' })],
      ['a pod with another name', runOf('2', { instance: 'other' })],
      ['a process that knows nothing of itself', undefined],
    ] as const)
      it(`has to run out for ${what}`, async () => {
        await acquire(start('a', runOf('1')));
        const b = start('b', other);
        assert.equal(await b.claims.acquire(TARGET), undefined);
        await pass(DURATION_MS, b);
        await acquire(b);
      });

    it('has to run out when a process has taken it over that left the note of its predecessor', async () => {
      const [a, old] = [start('a', runOf('1')), start('old')];
      await acquire(a);
      await old.claims.acquire(TARGET);
      await pass(DURATION_MS, old);
      await acquire(old);
      assert.equal(await start('b', runOf('2')).claims.acquire(TARGET), undefined);
    });
  });

  it('says how long it holds still', async () => {
    const [, b] = [await acquire(start('a')), start('b')];
    assert.equal(b.claims.leftMs(TARGET), undefined);
    await b.claims.sight(TARGET);
    await pass(DURATION_MS - 1000, b);
    assert.equal(b.claims.leftMs(TARGET), 1000);
    assert.equal(await b.claims.acquire(TARGET), undefined);
    await pass(1000, b);
    await acquire(b);
  });

  it('counts from when it was first seen, whatever the clock of its holder said', async () => {
    const [a, b] = [start('a'), start('b')];
    await acquire(a);
    const there = lease();
    leases.objects.set('vms/disklift-u1', { ...there, spec: { ...there.spec, renewTime: '1999-01-01T00:00:00.000000Z' } });
    await pass(DURATION_MS * 2, b);
    assert.equal(await b.claims.acquire(TARGET), undefined, 'it is seen for the first time');
    await pass(DURATION_MS, b);
    await acquire(b);
  });

  it('has one of two who take it over at once', async () => {
    const [a, b, c] = [start('a'), start('b'), start('c')];
    await acquire(a);
    for (const each of [b, c]) assert.equal(await each.claims.acquire(TARGET), undefined);
    await pass(DURATION_MS, b, c);
    const claims = await Promise.all([b, c].map(({ claims }) => claims.acquire(TARGET)));
    assert.equal(claims.filter((claim) => claim !== undefined).length, 1);
  });

  it('confirms at once what was renewed of late', async () => {
    const claim = await acquire(start('a'));
    await pass(RENEW_MS);
    const { length } = leases.calls;
    await claim.assertHeld();
    assert.equal(leases.calls.length, length);
  });

  it('asks when it was not, as after a process was stopped and continued', async () => {
    const [a, b] = [start('a'), start('b')];
    const claim = await acquire(a);
    assert.equal(await b.claims.acquire(TARGET), undefined);
    await pass(DURATION_MS, b);
    await acquire(b);
    a.standStill(DURATION_MS);
    await assert.rejects(claim.assertHeld(), { ...ExecutorLost, message: /another process has taken it/ });
    assert.ok(claim.lost.aborted);
    await assert.rejects(claim.assertHeld(), ExecutorLost);
    await claim.release();
    assert.equal(lease().spec?.holderIdentity, 'b', 'who lost it touches nothing');
  });

  it('goes on when nobody has taken it while the process was stopped', async () => {
    const a = start('a');
    const claim = await acquire(a);
    a.standStill(DURATION_MS * 10);
    await claim.assertHeld();
    assert.ok(!claim.lost.aborted);
  });

  it('ignores the answer to a renewal that was requested before the process was stopped', async () => {
    const a = start('a');
    const claim = await acquire(a);
    const answered = Promise.withResolvers<void>();
    leases.after = () => answered.promise;
    await pass(RENEW_MS);
    leases.after = () => {};
    leases.before = () => {
      throw unanswered();
    };
    a.standStill(DURATION_MS);
    a.ending.abort(new DiskliftError('ExecutorLost', 'the process ends'));
    const rejected = assert.rejects(claim.assertHeld(), { ...ExecutorLost, message: /the process ends/ });
    answered.resolve();
    await pass(3000);
    await rejected;
  });

  it('survives an API server that does not answer: the work goes on, and confirming waits', async () => {
    const a = start('a');
    const claim = await acquire(a);
    leases.before = () => {
      throw unanswered();
    };
    await pass(60_000);
    assert.ok(!claim.lost.aborted);
    let isConfirmed = false;
    const confirming = claim.assertHeld().then(() => {
      isConfirmed = true;
    });
    await pass(30_000);
    assert.ok(!isConfirmed);
    leases.before = () => {};
    await pass(5000);
    assert.ok(isConfirmed);
    await confirming;
  });

  it('gives up confirming in the end, and when the process ends', async () => {
    const a = start('a');
    const claim = await acquire(a);
    leases.before = () => {
      throw unanswered();
    };
    await pass(DEADLINE_MS);
    const patient = assert.rejects(claim.assertHeld(), ExecutorLost);
    await pass(301_000);
    await patient;
    const hasty = assert.rejects(claim.assertHeld(), ExecutorLost);
    await pass(10_000);
    a.ending.abort(new DiskliftError('ExecutorLost', 'the process ends'));
    await pass(3000);
    await hasty;
    assert.ok(!claim.lost.aborted);
  });

  it('is not lost by an answer that got lost, nor by a label', async () => {
    const claim = await acquire(start('a'));
    let losses = 1;
    leases.after = (operation) => {
      if (operation === 'replace' && losses-- > 0) throw unanswered();
    };
    await pass(RENEW_MS + 2000);
    const there = lease();
    leases.objects.set('vms/disklift-u1', { ...there, metadata: { ...there.metadata, resourceVersion: '900', labels: { a: 'b' } } });
    await pass(RENEW_MS);
    await claim.assertHeld();
    assert.deepEqual(lease().metadata.labels, { a: 'b' });
  });

  it('is lost when the Lease is deleted, also when there is a new one', async () => {
    const [a, b] = [start('a'), start('b')];
    const claim = await acquire(a);
    leases.objects.clear();
    await pass(RENEW_MS, a);
    assert.ok(claim.lost.aborted);
    const second = await acquire(a);
    leases.objects.clear();
    await acquire(b);
    await pass(RENEW_MS, a);
    assert.ok(second.lost.aborted);
    await second.release();
    assert.equal(lease().spec?.holderIdentity, 'b');
  });

  it('takes no Lease away that somebody took while this one was released', async () => {
    const [a, b] = [start('a'), start('b')];
    const claim = await acquire(a);
    assert.equal(await b.claims.acquire(TARGET), undefined);
    await pass(DURATION_MS, b);
    await acquire(b);
    await claim.release();
    assert.equal(lease().spec?.holderIdentity, 'b');
  });

  it('is free at once when it is released, and renewed no more', async () => {
    const [a, b] = [start('a'), start('b')];
    const claim = await acquire(a);
    await claim.release();
    await claim.release();
    assert.equal(leases.objects.size, 0);
    await assert.rejects(claim.assertHeld(), ExecutorLost);
    await acquire(b);
    await pass(RENEW_MS * 3, a);
    assert.equal(lease().spec?.holderIdentity, 'b');
  });

  it('is released also when the answer to the last renewal got lost', async () => {
    const a = start('a');
    const claim = await acquire(a);
    leases.after = () => {
      throw unanswered();
    };
    await pass(RENEW_MS);
    leases.after = () => {};
    await claim.release();
    assert.equal(leases.objects.size, 0);
  });

  it('releases within three seconds when nobody answers, and finds its own Lease free later', async () => {
    const a = start('a');
    const claim = await acquire(a);
    leases.before = () => {
      throw unanswered();
    };
    await claim.release();
    leases.before = () => {};
    await acquire(a);
  });

  it('needs no Lease in a terminating namespace, after a whole lease duration without one', async () => {
    const [a, b] = [start('a'), start('b')];
    const claim = await acquire(a);
    leases.before = (operation) => {
      if (operation === 'create') throw refused('Forbidden');
    };
    leases.objects.clear();
    await assert.rejects(b.claims.acquire(TARGET), { code: 'StoreRefused' });
    const going = { ...TARGET, isTerminating: true };
    await assert.rejects(b.claims.acquire(going), { code: 'StoreRefused' });
    await pass(DURATION_MS);
    assert.ok(claim.lost.aborted);
    await (await b.claims.acquire(going))?.assertHeld();
  });

  it('tells whether another process has it', async () => {
    const [a, b] = [start('a'), start('b')];
    assert.equal(await a.claims.isHeldByAnother(TARGET), false);
    await acquire(a);
    assert.deepEqual([await a.claims.isHeldByAnother(TARGET), await b.claims.isHeldByAnother(TARGET)], [false, true]);
  });

  it('passes on what the API server refuses', async () => {
    leases.before = () => {
      throw refused('Forbidden');
    };
    await assert.rejects(
      start('a').claims.acquire(TARGET),
      (error) => error instanceof DiskliftError && /does not allow/.test(error.message),
    );
  });
});
