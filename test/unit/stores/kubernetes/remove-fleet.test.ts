/** How the controller of a release is stopped and its objects removed: the order, what hinders, and what hangs. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { refusedError, unusableError } from '../../../../src/stores/kubernetes/client/api-failure.ts';
import { ALL_NAMESPACES, type NamespaceScope } from '../../../../src/stores/kubernetes/client/contract.ts';
import type { FleetPodObject } from '../../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { KubeObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { type RemoveFleetApi, removeFleet } from '../../../../src/stores/kubernetes/store/remove-fleet.ts';
import { createTestClock, type TestClock } from '../../../helpers/test-clock.ts';

const REST = [
  'persistentVolumeClaims',
  'volumeSnapshots',
  'virtualMachineSnapshots',
  'configMaps',
  'roleBindings',
  'serviceAccounts',
] as const;

/** Time for the controller, for the workers, and for each further kind. */
const LIMITS_MS = 35_000 + 45_000 + REST.length * 10_000;

const refusal = (what: string, status: number) => refusedError({ what, status, body: '' }, 0);

function object(name: string, namespace: string): KubeObject {
  return { metadata: { name, namespace, uid: `uid of ${name}`, resourceVersion: '1' } };
}

function pod(name: string, namespace: string, phase: string): FleetPodObject {
  return { ...object(name, namespace), spec: { containers: [] }, status: { phase } };
}

describe('the fleet of a controller', () => {
  let clock: TestClock;
  let stop: AbortController;
  /** Calls in order; `list jobs *` is for all namespaces. */
  let asked: string[];
  let objects: Record<string, KubeObject[]>;
  let workers: FleetPodObject[];
  let controllers: FleetPodObject[];
  /** Thrown by the call of this text, each time. */
  let failures: Map<string, Error>;

  beforeEach(() => {
    clock = createTestClock();
    stop = new AbortController();
    asked = [];
    failures = new Map();
    objects = Object.fromEntries(['jobs', ...REST].map((kind) => [kind, [object(`${kind}-1`, 'vms')]]));
    workers = [pod('worker', 'vms', 'Running')];
    controllers = [];
  });

  function call(text: string): void {
    asked.push(text);
    const failure = failures.get(text);
    if (failure !== undefined) throw failure;
  }

  const inScope = (scope: NamespaceScope) => (each: KubeObject) => scope === ALL_NAMESPACES || each.metadata.namespace === scope;
  const nameOf = (scope: NamespaceScope) => (scope === ALL_NAMESPACES ? '*' : scope);
  const listOf = <T>(items: T[]) => ({ resourceVersion: '1', items });

  function resource(kind: string): RemoveFleetApi['jobs'] {
    return {
      description: { group: '', version: 'v1', kind, plural: kind },
      async list(scope, { labelSelector, limitMs, signal } = {}) {
        assert.deepEqual([labelSelector, limitMs, signal], ['managed', 5000, stop.signal]);
        call(`list ${kind} ${nameOf(scope)}`);
        return listOf((objects[kind] ?? []).filter(inScope(scope)));
      },
      async remove({ namespace, name }, { uid } = {}) {
        assert.equal(uid, `uid of ${name}`);
        call(`remove ${kind} ${namespace}/${name}`);
        const [gone] = (objects[kind] ?? []).filter((each) => each.metadata.name === name);
        objects[kind] = (objects[kind] ?? []).filter((each) => each !== gone);
        if (kind === 'jobs') workers = workers.filter((each) => each.metadata.name === 'lost');
        return gone !== undefined;
      },
    };
  }

  async function run(namespaces: string[] = []): Promise<string[]> {
    const unused = async () => assert.fail('not used');
    const kinds = Object.fromEntries(['jobs', ...REST].map((kind) => [kind, resource(kind)]));
    return removeFleet({
      workloads: {
        deployments: {
          async patch(target, { patch, subresource }) {
            call(`scale ${target.namespace}/${target.name} ${subresource} ${JSON.stringify(patch)}`);
            return object(target.name, target.namespace);
          },
        },
        jobs: { patch: unused, list: unused },
        cronJobs: { patch: unused },
        pods: {
          async list(scope, { labelSelector } = {}) {
            assert.equal(labelSelector, 'controller');
            call(`pods ${nameOf(scope)}`);
            return listOf(controllers);
          },
        },
      },
      fleet: {
        ...(kinds as Omit<RemoveFleetApi, 'pods'>),
        pods: {
          async list(scope, { labelSelector } = {}) {
            assert.equal(labelSelector, 'managed');
            call(`workers ${nameOf(scope)}`);
            return listOf(workers.filter(inScope(scope)));
          },
        },
      },
      namespace: 'disklift',
      deployment: 'c',
      controllerSelector: 'controller',
      managedSelector: 'managed',
      namespaces,
      clock,
      signal: stop.signal,
    });
  }

  it('goes in this order: controller, Jobs with their pods, clones, snapshots, ConfigMaps, rights', async () => {
    assert.deepEqual(await run(), []);
    assert.deepEqual(asked, [
      'scale disklift/c scale {"spec":{"replicas":0}}',
      'pods disklift',
      ...['list jobs *', 'remove jobs vms/jobs-1', 'workers *'],
      ...REST.flatMap((kind) => [`list ${kind} *`, `remove ${kind} vms/${kind}-1`]),
    ]);
  });

  it('goes only in the namespaces that the controller serves', async () => {
    objects = Object.fromEntries(
      ['jobs', ...REST].map((kind) => [kind, ['a', 'b', 'other'].map((name) => object(`${kind}-${name}`, name))]),
    );
    workers = [pod('lost', 'other', 'Running')];
    assert.deepEqual(await run(['a', 'b']), []);
    assert.ok(
      asked.every((each) => !/\*|other/.test(each)),
      `${asked}`,
    );
    for (const kind of ['jobs', ...REST])
      assert.deepEqual(
        objects[kind]?.map(({ metadata }) => metadata.namespace),
        ['other'],
      );
  });

  it('goes although the kinds of snapshots are not installed', async () => {
    for (const kind of ['volumeSnapshots', 'virtualMachineSnapshots']) failures.set(`list ${kind} *`, refusal('list', 404));
    assert.deepEqual(await run(), []);
    assert.ok(asked.includes('remove serviceAccounts vms/serviceAccounts-1'));
    assert.deepEqual(clock.delaysMs, []);
  });

  it('leaves alone an object that has the name of a removed one', async () => {
    failures.set('remove configMaps vms/configMaps-1', refusal('remove', 409));
    assert.deepEqual(await run(), []);
  });

  it('waits for pods that run, and not for pods that have ended', async () => {
    workers = [pod('lost', 'vms', 'Running'), pod('done', 'vms', 'Succeeded')];
    setImmediate(() => (workers = []));
    assert.deepEqual(await run(), []);
    assert.ok(clock.delaysMs.length > 0);
  });

  it('removes the rest although a pod of a lost node stays, and reports the pod', async () => {
    workers = [pod('lost', 'vms', 'Running')];
    assert.deepEqual(await run(), ['still there: lost']);
    for (const kind of REST) assert.deepEqual(objects[kind], [], kind);
  });

  it('removes the rest although the controller does not end, and reports its pod', async () => {
    controllers = [pod('c-1', 'disklift', 'Running')];
    assert.deepEqual(await run(), ['still there: c-1']);
    assert.deepEqual(objects.jobs, []);
  });

  it('retries a call that fails', async () => {
    failures.set('list jobs *', unusableError('list', 'no answer'));
    setImmediate(() => failures.clear());
    assert.deepEqual(await run(), []);
    assert.ok(asked.filter((each) => each === 'list jobs *').length > 1);
  });

  it('reports each kind that it may not remove, within its time, and removes the others', async () => {
    failures.set('remove volumeSnapshots vms/volumeSnapshots-1', refusal('remove', 403));
    failures.set('list configMaps *', refusal('list', 403));
    const startMs = clock.monotonicMs();
    const problems = await run();
    assert.equal(problems.length, 2);
    for (const problem of problems) assert.match(problem, /does not allow it/);
    assert.deepEqual([objects.roleBindings, objects.serviceAccounts], [[], []]);
    assert.ok(clock.monotonicMs() - startMs <= LIMITS_MS);
  });

  it('ends when the process is to end', async () => {
    failures.set('list jobs *', unusableError('list', 'ended'));
    stop.abort(new DiskliftError('Cancelled', 'cancelled by SIGTERM'));
    await assert.rejects(run(), { code: 'Cancelled' });
  });
});
