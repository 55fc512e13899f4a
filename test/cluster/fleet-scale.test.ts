/** A small fleet, as `make bench-fleet` runs a large one: what the numbers of a fleet must be at any size. */

// Runs alone: an API server, its controllers and the controller of disklift share the processors.

import assert from 'node:assert/strict';
import { type FleetRun, runFleet } from './fleet/run-fleet.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';

const SIZE = { exports: 120, namespaces: 12, nodes: 8 };
const LIMITS = { total: 10, perNamespace: 3, perNode: 2 };
const MAX_REQUESTS_EACH = 25;
const LIMIT_MS = 240_000;

/** Exports of one namespace that end while another namespace waits for its turn. */
const MAX_SPREAD = LIMITS.perNamespace + 3;

describe('a fleet', function () {
  this.timeout(2 * LIMIT_MS);
  let run: FleetRun;

  before(async function () {
    if (usesExistingCluster()) this.skip();
    run = await runFleet(requireBinaries(this), { size: SIZE, limits: LIMITS, workMs: 200, limitMs: LIMIT_MS, report: () => {} });
  });

  it('exports every claim, and leaves nothing behind', () => {
    assert.deepEqual([...run.phases], [['Succeeded', SIZE.exports]]);
    assert.deepEqual([run.leftovers, run.problems], [[], []]);
  });

  it('has as many Jobs at a time as the limits permit, and never more', () => {
    const { jobs, jobsOfNamespace, jobsOfNode } = run.most;
    assert.equal(jobs, LIMITS.total);
    assert.ok(jobsOfNamespace <= LIMITS.perNamespace, `${jobsOfNamespace} of a namespace`);
    assert.ok(jobsOfNode <= LIMITS.perNode, `${jobsOfNode} of a node`);
  });

  it('advances in all namespaces at the same pace, although the exports of one are the oldest', () => {
    assert.ok(run.most.spread <= MAX_SPREAD, `one namespace is ${run.most.spread} exports ahead`);
  });

  it('sends few requests for each export, and makes no account for each export', () => {
    const sum = [...run.requests.values()].reduce((total, count) => total + count, 0);
    assert.ok(sum / SIZE.exports <= MAX_REQUESTS_EACH, JSON.stringify([...run.requests]));
    assert.equal(run.requests.get('create jobs'), SIZE.exports);
    // The cache may show a Job a moment longer, which is then deleted twice.
    assert.ok((run.requests.get('delete jobs') ?? 0) <= 1.1 * SIZE.exports);
    // An account goes when no export of its namespace waits, also while the controller has not looked at the next one.
    const accounts = run.requests.get('create serviceaccounts') ?? 0;
    assert.ok(accounts >= SIZE.namespaces && accounts <= 3 * SIZE.namespaces, `${accounts} accounts`);
  });
});
