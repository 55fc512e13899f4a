/** Several exports at once, with random failures of the API server, watches that lag, and processes that are killed. */

import assert from 'node:assert/strict';
import { putClaim, putExport, putStorage, putVm, putWriter } from '../../helpers/fleet/fleet-objects.ts';
import { type FaultKind, runScene, type Scene } from '../../helpers/fleet/fleet-scene.ts';
import type { Resource } from '../../helpers/fleet/memory-fleet.ts';
import { createRandom, SEED_TEXT, seedOf } from '../../helpers/seed.ts';

const RUNS = 40;
const TOTAL = 2;

const KINDS: readonly FaultKind[] = ['refuse', 'lose', 'hang', 'conflict', 'refuse', 'lose', 'kill before', 'kill after'];

const WATCHED: readonly Resource[] = ['exports', 'pods', 'jobs', 'persistentVolumeClaims', 'volumeSnapshots', 'virtualMachineSnapshots'];

/** Seconds of trouble. The rest is quiet. */
const TROUBLE_SECONDS = 150;

function sceneOf(random: () => number): Scene {
  const held = new Map<Resource, number>();
  return {
    name: 'chaos',
    plan: { workers: Array.from({ length: 6 }, () => (random() < 0.3 ? 'killed' : 'succeeds')).concat('succeeds') as ['succeeds'] },
    options: { limits: { total: TOTAL, perNamespace: 5, perNode: 5 } },
    maxSeconds: 1500,
    setUp(fleet) {
      putStorage(fleet);
      for (const name of ['root', 'data', 'free']) putClaim(fleet, name);
      putVm(fleet, true, ['root', 'data']);
      putWriter(fleet, 'root', 'data');
      putExport(fleet, { name: 'vm', source: { virtualMachine: { name: 'db01' } } });
      for (const claimName of ['root', 'data', 'free', 'free'])
        putExport(fleet, {
          name: `${claimName}-${fleet.all('exports').length}`,
          source: { persistentVolumeClaim: { claimName } },
          snapshot: { mode: 'Auto' },
        });
    },
    eachSecond(fleet, second) {
      for (const [resource, untilSecond] of held) if (second >= untilSecond) held.delete(resource);
      const resource = WATCHED[Math.floor(random() * WATCHED.length)] as Resource;
      if (second < TROUBLE_SECONDS && random() < 0.2) held.set(resource, second + Math.floor(random() * 25));
      fleet.isDelivered = (each) => !held.has(each);
      fleet.deliver();
    },
  };
}

describe('the controller in chaos', function () {
  this.timeout(60_000);

  for (let run = 0; run < RUNS; run += 1)
    it(`ends all exports with each done once, and leaves nothing behind (run ${run}) ${SEED_TEXT}`, async () => {
      const random = createRandom(seedOf(run));
      const faults: string[] = [];
      const result = await runScene(sceneOf(random), (index) => {
        if (index > 400 || random() > 0.12) return undefined;
        const kind = KINDS[Math.floor(random() * KINDS.length)] as FaultKind;
        faults.push(`${index} ${kind}`);
        return { index, kind };
      });
      const told = `${faults.join(', ')}\n${result.calls.map((call, index) => `${index} ${call}`).join('\n')}\n${result.warnings.join('\n')}`;
      assert.ok(result.hasSettled, `has not settled: ${result.ends} ${result.names}\n${told}`);
      assert.deepEqual(
        result.ends.map((end) => end.split(' ').slice(0, 3).join(' ')),
        ['vm', 'root-1', 'data-2', 'free-3', 'free-4'].map((name) => `${name}: Succeeded Completed`),
        told,
      );
      assert.deepEqual(
        result.names.filter((name) => /disklift|vmsnapshot|content-/.test(name)),
        [],
        told,
      );
      assert.ok(result.mostWorkers <= 1, `${result.mostWorkers} workers of one export\n${told}`);
      assert.ok(result.mostPods <= TOTAL, `${result.mostPods} pods\n${told}`);
      const jobs = result.created.filter((name) => name.startsWith('jobs '));
      assert.equal(new Set(jobs).size, jobs.length, `a Job was made twice: ${jobs}\n${told}`);
    });
});
