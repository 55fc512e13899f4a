/** A worker on a node that is lost: its pod never ends, and nothing is blocked by it for ever. */

import assert from 'node:assert/strict';
import { putExport } from '../../helpers/fleet/fleet-objects.ts';
import { runScene } from '../../helpers/fleet/fleet-scene.ts';
import type { MemoryFleet } from '../../helpers/fleet/memory-fleet.ts';
import { IN_USE, LIVE } from './controller-scenes.ts';

const LOST = { workers: ['lost'], snapshotSteps: 2 } as const;

/** Seconds after which the request is cancelled or deleted; until it must have ended; and when the node is removed. */
const [STOPPED, LIMIT, REMOVED] = [30, 240, 300];

/** As the controller of nodes does when a Node is deleted. */
function removePods(fleet: MemoryFleet): void {
  for (const pod of fleet.all('pods').filter(({ metadata }) => metadata.deletionTimestamp !== undefined))
    fleet.patch('pods', pod, { status: { phase: 'Failed' } });
}

describe('a worker on a lost node', function () {
  this.timeout(60_000);

  for (const scene of [LIVE, IN_USE])
    it(`holds up no cancel, no slot and no upload, and what it uses goes with it: ${scene.name}`, async () => {
      let status: { phase?: string; message?: string; disks?: { upload?: object }[] } = {};
      let left: string[] = [];
      const run = await runScene({
        ...scene,
        plan: LOST,
        maxSeconds: 600,
        eachSecond(fleet, second) {
          const [object] = fleet.all('exports');
          if (object === undefined) return;
          if (second === STOPPED - 1) assert.equal(object.status?.disks?.[0]?.upload?.id, 'upload-1', 'an upload is open');
          if (second === STOPPED) fleet.patch('exports', object, { spec: { cancel: true } });
          if (second === LIMIT) [status, left] = [object.status, fleet.names()];
          if (second === REMOVED) removePods(fleet);
        },
      });
      assert.equal(status.phase, 'Cancelled');
      assert.match(
        status.message ?? '',
        /^cancelled by spec.cancel; the pod disklift-\S+-0 on the node \S+ was deleted and does not end: /,
      );
      assert.deepEqual(
        [(status.disks ?? []).some(({ upload }) => upload), run.fleet.all('exports')[0]?.metadata.finalizers ?? []],
        [false, []],
      );
      assert.ok(
        left.some((name) => /^pods vms\/disklift-/.test(name)),
        `the pod is still there: ${left}`,
      );
      assert.ok(run.hasSettled, `everything goes with the pod: ${run.names}`);
    });

  it('holds up no deletion of its export, and gives its slot to the next one', async () => {
    let ends: string[] = [];
    const run = await runScene({
      ...LIVE,
      plan: { ...LOST, workers: ['lost', 'succeeds'] },
      options: { limits: { total: 1, perNamespace: 1, perNode: 1 } },
      maxSeconds: 600,
      eachSecond(fleet, second) {
        const [object] = fleet.all('exports');
        if (second === STOPPED && object !== undefined) fleet.remove('exports', object);
        if (second === STOPPED + 1) {
          assert.equal(object?.metadata.finalizers?.length, 1, 'an upload is open');
          putExport(fleet, { name: 'second' });
        }
        if (second === LIMIT) ends = fleet.all('exports').map(({ metadata, status }) => `${metadata.name} ${status?.phase}`);
        if (second === REMOVED) removePods(fleet);
      },
    });
    assert.deepEqual(ends, ['second Succeeded']);
    assert.ok(run.hasSettled, `${run.names}`);
  });
});
