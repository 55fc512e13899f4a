import assert from 'node:assert/strict';
import { systemClock } from '../../../src/common/clock.ts';
import type { Children } from '../../../src/controller/observed.ts';
import { createStartProblems } from '../../../src/controller/start-problems.ts';
import type { FleetApi } from '../../../src/stores/kubernetes/client/fleet-api.ts';
import { claimOf, jobOf, NOW_MS, podOf } from './observed-facts.ts';

const UNSCHEDULABLE = podOf('Pending', { problem: { reason: 'Unschedulable', message: 'unbound immediate PersistentVolumeClaims' } });

/** Each object has one event, with its uid as the message. */
async function problemOf(children: Partial<Children>): Promise<string | undefined> {
  const reasons: Record<string, string> = {
    'uid-of-clone': 'ProvisioningFailed',
    'pod-1': 'FailedMount',
    'uid-of-disklift-u-1': 'FailedCreate',
  };
  const events: Pick<FleetApi['events'], 'list'> = {
    async list(_namespace, { fieldSelector = '' } = {}) {
      const uid = fieldSelector.replace('involvedObject.uid=', '');
      const metadata = { name: 'event', namespace: 'vms', uid: 'event', resourceVersion: '1' };
      return { items: [{ metadata, type: 'Warning', reason: reasons[uid] ?? assert.fail(uid), message: uid }], resourceVersion: '1' };
    },
  };
  const problems = createStartProblems({ api: { events: events as FleetApi['events'] }, clock: { ...systemClock, nowMs: () => NOW_MS } });
  const none = { cleanupJob: undefined, vmSnapshot: undefined, snapshots: new Map(), clones: new Map(), configMap: undefined };
  const found = await problems.find({ job: jobOf(), pods: [], ...none, ...children });
  return found && `${found.reason} ${found.message}`;
}

describe('why the pod of an export does not start', () => {
  const clones = new Map([[0, claimOf('clone', 'Pending')]]);

  it("the event of a clone without a volume comes before the scheduler's word for its pod", async () => {
    assert.equal(await problemOf({ clones, pods: [UNSCHEDULABLE] }), 'CloneFailed uid-of-clone');
    assert.equal(await problemOf({ clones }), 'CloneFailed uid-of-clone');
  });

  it('a pod that says it itself needs no event, once its clone has a volume', async () => {
    assert.equal(await problemOf({ clones: new Map([[0, claimOf('clone')]]), pods: [UNSCHEDULABLE] }), undefined);
  });

  it('the event belongs to the pod, or to the Job without a pod', async () => {
    assert.equal(await problemOf({ pods: [podOf('Pending')] }), 'VolumeMountFailed pod-1');
    assert.equal(await problemOf({}), 'PodRefused uid-of-disklift-u-1');
  });

  it('a pod that runs, or that has failed, has none', async () => {
    assert.equal(await problemOf({ clones, pods: [podOf('Running')] }), undefined);
    assert.equal(await problemOf({ pods: [podOf('Failed')] }), undefined);
  });
});
