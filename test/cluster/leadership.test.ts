/** The election of a leader on a real API server. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { systemClock } from '../../src/common/clock.ts';
import type { ApiAccess } from '../../src/stores/kubernetes/client/api-access.ts';
import { createFleetApi, type FleetApi } from '../../src/stores/kubernetes/client/fleet-api.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { runAsLeader, type Term } from '../../src/stores/kubernetes/leases/leadership.ts';
import { leaseTimesOf } from '../../src/stores/kubernetes/leases/lease-claim.ts';
import { until } from '../helpers/until.ts';
import { useApiServer } from './use-api-server.ts';

const DURATION_SECONDS = 3;

describe('the election of a leader on an API server', function () {
  this.timeout(60_000);
  let access: ApiAccess;
  let api: FleetApi;

  before(async function () {
    const server = await useApiServer(this);
    access = createKubeconfigAccess({ kubeconfig: server.kubeconfig });
    api = createFleetApi({ access, clock: systemClock, userAgent: 'disklift/test' });
  });

  after(() => access?.close());

  interface Candidate {
    term: Term | undefined;
    /** Its requests hang until it is thawed. */
    freeze(): void;
    thaw(): void;
    stop(): Promise<void>;
  }

  function start(name: string, holder: string): Candidate {
    const stop = new AbortController();
    let frozen: PromiseWithResolvers<void> | undefined;
    const candidate: Candidate = {
      term: undefined,
      freeze: () => {
        frozen = Promise.withResolvers();
      },
      thaw: () => frozen?.resolve(),
      async stop() {
        stop.abort();
        await running;
      },
    };
    const replace: FleetApi['leases']['replace'] = async (object, options) => {
      await frozen?.promise;
      return api.leases.replace(object, options);
    };
    const running = runAsLeader({
      leases: { ...api.leases, replace },
      times: leaseTimesOf(DURATION_SECONDS),
      clock: systemClock,
      random: Math.random,
      holder,
      target: { namespace: 'default', name },
      lead(term) {
        candidate.term = term;
        return new Promise((resolve) => term.signal.addEventListener('abort', () => resolve(), { once: true }));
      },
      onChange: () => {},
      warn: (message) => assert.fail(message),
      signal: stop.signal,
    });
    return candidate;
  }

  it('hands the Lease over at once when the leader stops, and after its duration when the leader is dead', async () => {
    const name = `leader-${randomUUID().slice(0, 8)}`;
    const target = { namespace: 'default', name };
    const holderOf = async () => (await api.leases.get(target))?.spec?.holderIdentity;
    const first = start(name, 'a');
    await until('the first leads', () => first.term !== undefined);
    const [second, third] = [start(name, 'b'), start(name, 'c')];
    try {
      assert.equal(await holderOf(), 'a');
      await first.term?.assertHeld();
      let startMs = performance.now();
      await first.stop();
      await until('another leads', () => second.term !== undefined || third.term !== undefined);
      assert.ok(performance.now() - startMs < 2500, `${performance.now() - startMs} ms`);
      const [leader, waiting] = second.term === undefined ? [third, second] : [second, third];
      const former = leader.term as Term;

      leader.freeze();
      startMs = performance.now();
      await until('the last candidate leads', () => waiting.term !== undefined);
      const takenMs = performance.now() - startMs;
      assert.ok(takenMs > (DURATION_SECONDS * 1000 * 2) / 3, `${takenMs} ms: the former leader may still write`);
      await waiting.term?.assertHeld();
      let isPermitted = false;
      const asserted = former.assertHeld().then(() => {
        isPermitted = true;
      });
      asserted.catch(() => {});
      leader.thaw();
      await assert.rejects(asserted, { code: 'ExecutorLost', message: /another process has taken it/ });
      assert.equal(isPermitted, false);
      assert.equal(former.signal.aborted, true);
      await waiting.term?.assertHeld();
    } finally {
      first.thaw();
      for (const candidate of [second, third]) {
        candidate.thaw();
        await candidate.stop();
      }
    }
    assert.equal(await holderOf(), undefined);
  });
});
