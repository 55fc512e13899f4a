import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { runAsLeader, type Term } from '../../../../src/stores/kubernetes/leases/leadership.ts';
import { leaseTimesOf } from '../../../../src/stores/kubernetes/leases/lease-claim.ts';
import { createFakeLeases, type FakeLeases, refused, unanswered } from '../../../helpers/fake-leases.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { until } from '../../../helpers/until.ts';

const TARGET = { namespace: 'disklift', name: 'disklift-controller' };
const KEY = `${TARGET.namespace}/${TARGET.name}`;

interface Candidate {
  terms: Term[];
  changes: boolean[];
  warnings: string[];
  /** Ends `lead` of the current term. */
  endWork: (failure?: Error) => void;
  /** Resolves with the failure of runAsLeader. */
  ended: Promise<unknown>;
  stop(): void;
}

describe('the election of a leader', () => {
  let leases: FakeLeases;
  let clock: ManualClock;
  let candidates: Candidate[];

  beforeEach(() => {
    leases = createFakeLeases();
    clock = createManualClock();
    candidates = [];
  });

  afterEach(async () => {
    [leases.before, leases.after] = [() => {}, () => {}];
    for (const candidate of candidates) {
      candidate.stop();
      candidate.endWork();
      await candidate.ended;
    }
  });

  interface Behaviour {
    /** Its requests. Default: those of the API server that all candidates share. */
    requests?: FakeLeases;
    /** Whether `lead` ignores the abort of its signal. */
    hangs?: boolean;
  }

  function start(holder: string, { requests = leases, hangs = false }: Behaviour = {}): Candidate {
    const stop = new AbortController();
    const candidate: Candidate = {
      terms: [],
      changes: [],
      warnings: [],
      endWork: () => {},
      ended: Promise.resolve(),
      stop: () => stop.abort(new DiskliftError('Cancelled', 'stopped')),
    };
    candidate.ended = runAsLeader({
      leases: requests,
      times: leaseTimesOf(30),
      clock,
      random: () => 0.5,
      holder,
      target: TARGET,
      lead(term) {
        candidate.terms.push(term);
        const work = Promise.withResolvers<void>();
        candidate.endWork = (failure) => (failure === undefined ? work.resolve() : work.reject(failure));
        if (!hangs) term.signal.addEventListener('abort', () => work.resolve(), { once: true });
        return work.promise;
      },
      onChange: (isLeading) => candidate.changes.push(isLeading),
      warn: (message) => candidate.warnings.push(message),
      signal: stop.signal,
    }).catch((error: unknown) => error);
    candidates.push(candidate);
    return candidate;
  }

  const holderOf = () => leases.objects.get(KEY)?.spec?.holderIdentity;
  const isLeading = ({ changes }: Candidate) => changes.at(-1) === true;
  const untilLeading = (candidate: Candidate) => until('the candidate leads', () => isLeading(candidate));

  async function advanceSeconds(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      await clock.advance(1000);
      for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate);
    }
  }

  /** Replaces the Lease as another process would. */
  function takeOver(holderIdentity: string): void {
    const lease = leases.objects.get(KEY);
    assert.ok(lease !== undefined);
    const metadata = { ...lease.metadata, resourceVersion: `${lease.metadata.resourceVersion}0` };
    leases.objects.set(KEY, { ...lease, metadata, spec: { ...lease.spec, holderIdentity } });
  }

  it('has one leader of two candidates, whose Lease has no owner', async () => {
    const [first, second] = [start('a'), start('b')];
    await until('a leader', () => isLeading(first) || isLeading(second));
    await advanceSeconds(120);
    assert.deepEqual([first.changes, second.changes], [[true], []]);
    assert.equal(holderOf(), 'a');
    assert.equal(leases.objects.get(KEY)?.metadata.ownerReferences, undefined);
    await first.terms[0]?.assertHeld();
  });

  it('hands over within a second when the leader is stopped, and its former term permits nothing', async () => {
    const first = start('a');
    await untilLeading(first);
    const second = start('b');
    await clock.untilWaiting(1000);
    first.stop();
    assert.equal(await first.ended, undefined);
    assert.deepEqual(first.changes, [true, false]);
    assert.equal(holderOf(), undefined);
    await assert.rejects(first.terms[0]?.assertHeld() ?? assert.fail(), { code: 'ExecutorLost', message: /was released/ });
    await advanceSeconds(1);
    await untilLeading(second);
    assert.equal(holderOf(), 'b');
  });

  it('takes the Lease of a leader that renews it no more over after its duration, and not before', async () => {
    const dead = createFakeLeases();
    const first = start('a', { requests: { ...leases, replace: dead.replace } as FakeLeases });
    await untilLeading(first);
    const hanging = Promise.withResolvers<void>();
    dead.before = () => hanging.promise;
    const second = start('b');
    await advanceSeconds(29);
    assert.equal(isLeading(second), false);
    await advanceSeconds(3);
    await untilLeading(second);
    assert.equal(leases.objects.get(KEY)?.spec?.leaseTransitions, 1);
    assert.equal(isLeading(first), true, 'it cannot know of the loss');
    hanging.resolve();
    await assert.rejects(first.terms[0]?.assertHeld() ?? assert.fail(), /is lost: another process has taken it/);
    await until('the end of its term', () => !isLeading(first));
  });

  it('permits no write while renewals hang, and aborts the term when another process has the Lease', async () => {
    const first = start('a');
    await untilLeading(first);
    const term = first.terms[0] as Term;
    const hanging = Promise.withResolvers<void>();
    leases.before = (operation) => (operation === 'replace' ? hanging.promise : undefined);
    await advanceSeconds(19);
    await term.assertHeld();
    await advanceSeconds(1);
    let outcome: string | undefined;
    term.assertHeld().then(
      () => {
        outcome = 'permitted';
      },
      (error: unknown) => {
        outcome = String(error);
      },
    );
    await advanceSeconds(60);
    assert.equal(outcome, undefined);
    assert.equal(term.signal.aborted, false);
    takeOver('b');
    leases.before = () => {};
    hanging.resolve();
    await until('the loss', () => outcome !== undefined);
    assert.match(outcome ?? '', /is lost: another process has taken it/);
    assert.equal(term.signal.aborted, true);
    await until('it leads no more', () => !isLeading(first));
  });

  it('permits writes again when renewals that failed succeed, in the same term', async () => {
    const first = start('a');
    await untilLeading(first);
    leases.before = (operation) => {
      if (operation === 'replace') throw unanswered();
    };
    await advanceSeconds(60);
    const permitted = first.terms[0]?.assertHeld();
    leases.before = () => {};
    await advanceSeconds(10);
    await permitted;
    assert.deepEqual(first.changes, [true]);
    assert.equal(first.terms.length, 1);
  });

  it('leads again after its Lease was deleted, in a new term', async () => {
    const first = start('a');
    await untilLeading(first);
    leases.objects.delete(KEY);
    await advanceSeconds(11);
    await until('a new term', () => first.terms.length === 2);
    assert.deepEqual(first.changes, [true, false, true]);
    await assert.rejects(first.terms[0]?.assertHeld() ?? assert.fail(), /is lost: it was deleted/);
    await first.terms[1]?.assertHeld();
  });

  it('retries while the API server refuses or does not answer, and warns once', async () => {
    leases.before = () => {
      throw refused('Forbidden');
    };
    const first = start('a');
    await advanceSeconds(120);
    assert.deepEqual(first.warnings, ['a call: the API server does not allow it: Forbidden']);
    assert.ok(leases.calls.length > 10 && leases.calls.length < 60, `${leases.calls.length} calls`);
    leases.before = () => {};
    await advanceSeconds(10);
    await untilLeading(first);
  });

  it('ends at once while a look at the Lease hangs', async () => {
    leases.before = () => new Promise(() => {});
    const first = start('a');
    await until('the look', () => leases.calls.length === 1);
    first.stop();
    assert.equal(await first.ended, undefined);
    assert.deepEqual(first.changes, []);
  });

  it('releases a Lease whose creation is answered after the stop', async () => {
    const answer = Promise.withResolvers<void>();
    leases.after = (operation) => (operation === 'create' ? answer.promise : undefined);
    const first = start('a');
    await until('the creation', () => holderOf() === 'a');
    first.stop();
    await clock.untilWaiting(1000);
    await clock.advance(1000);
    assert.equal(await first.ended, undefined);
    answer.resolve();
    await until('the release', () => holderOf() === undefined);
    assert.deepEqual(first.changes, []);
  });

  it('fails with the failure of its work, and releases the Lease', async () => {
    const first = start('a');
    await untilLeading(first);
    const failure = new DiskliftError('InvalidRequest', 'the work fails');
    first.endWork(failure);
    assert.equal(await first.ended, failure);
    assert.equal(holderOf(), undefined);
  });

  it('ends when its work ends', async () => {
    const first = start('a');
    await untilLeading(first);
    first.endWork();
    assert.equal(await first.ended, undefined);
    assert.equal(holderOf(), undefined);
  });

  it('begins no term beside work that does not end after the loss, but fails', async () => {
    const first = start('a', { hangs: true });
    await untilLeading(first);
    takeOver('b');
    await advanceSeconds(10);
    await until('the loss', () => first.terms[0]?.signal.aborted === true);
    await advanceSeconds(5);
    assert.match(String(await first.ended), /the work of a former leader does not end in 5 s/);
    assert.equal(holderOf(), 'b');
  });

  it('releases the Lease 5 s after the stop when its work hangs', async () => {
    const first = start('a', { hangs: true });
    await untilLeading(first);
    first.stop();
    await advanceSeconds(4);
    assert.equal(holderOf(), 'a');
    await advanceSeconds(1);
    assert.equal(await first.ended, undefined);
    assert.equal(holderOf(), undefined);
  });
});
