/** The kinds of objects that the controller uses, on a real API server. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { systemClock } from '../../src/common/clock.ts';
import { createReflector } from '../../src/stores/kubernetes/cache/reflector.ts';
import type { ApiAccess } from '../../src/stores/kubernetes/client/api-access.ts';
import { apiFailureOf } from '../../src/stores/kubernetes/client/api-failure.ts';
import { ALL_NAMESPACES, type KubeResource, type WatchEvent } from '../../src/stores/kubernetes/client/contract.ts';
import { createFleetApi, type FleetApi } from '../../src/stores/kubernetes/client/fleet-api.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import type { AnyObject } from '../../src/stores/kubernetes/client/objects.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import { useApiServer } from './use-api-server.ts';

describe('the API of the controller', function () {
  this.timeout(90_000);
  let server: ApiServer;
  let access: ApiAccess;
  let api: FleetApi;
  let namespace: string;

  before(async function () {
    server = await useApiServer(this);
    access = createKubeconfigAccess({ kubeconfig: server.kubeconfig });
    api = createFleetApi({ access, clock: systemClock, userAgent: 'disklift/test' });
  });

  beforeEach(async () => {
    namespace = `fleet-${randomUUID().slice(0, 8)}`;
    await post('/api/v1/namespaces', { metadata: { name: namespace } });
  });

  after(() => access?.close());

  async function post(path: string, body: object): Promise<void> {
    const answer = await server.request(path, { method: 'POST', body });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
  }

  const createMap = (name: string, labels: Record<string, string> = {}) =>
    api.configMaps.create({ metadata: { namespace, name, labels }, data: {} });

  interface Watching {
    events: string[];
    stop(): Promise<void>;
  }

  /** Records each event as `TYPE NAME`. */
  function watch<T extends AnyObject>(resource: KubeResource<T>, options: { resourceVersion: string; labelSelector?: string }): Watching {
    const stop = new AbortController();
    const events: string[] = [];
    const record = async () => {
      for await (const { type, object } of resource.watch(ALL_NAMESPACES, { ...options, timeoutSeconds: 60, signal: stop.signal }))
        if (type !== 'BOOKMARK') events.push(textOf({ type, object }));
    };
    const running = record().catch((error: unknown) => assert.ok(stop.signal.aborted, String(error)));
    return {
      events,
      stop() {
        stop.abort();
        return running;
      },
    };
  }

  const textOf = ({ type, object }: WatchEvent) => `${type} ${(object as AnyObject).metadata.name}`;

  it('gets, lists, watches, changes and deletes objects of cluster-scoped kinds', async () => {
    const name = `class-${randomUUID().slice(0, 8)}`;
    const { resourceVersion } = await api.storageClasses.list(ALL_NAMESPACES);
    const watching = watch(api.storageClasses, { resourceVersion });
    try {
      const target = { namespace: '', name };
      await api.storageClasses.create({ metadata: target, provisioner: 'example.com/disks', volumeBindingMode: 'WaitForFirstConsumer' });
      const found = await api.storageClasses.get(target);
      assert.equal(found?.volumeBindingMode, 'WaitForFirstConsumer');
      assert.equal(found?.metadata.namespace, undefined);
      await api.storageClasses.patch(target, { patch: { metadata: { annotations: { a: 'b' } } } });
      const { items } = await api.storageClasses.list(ALL_NAMESPACES);
      assert.equal(items.find(({ metadata }) => metadata.name === name)?.metadata.annotations?.a, 'b');
      assert.equal(await api.storageClasses.remove(target, { uid: found?.metadata.uid ?? '' }), true);
      assert.equal(await api.storageClasses.get(target), undefined);
      await until('all events', () => watching.events.length === 3);
      assert.deepEqual(watching.events, [`ADDED ${name}`, `MODIFIED ${name}`, `DELETED ${name}`]);
      const gone = api.storageClasses.patch(target, { patch: {} });
      await assert.rejects(gone, { message: new RegExp(`^patch storageclasses ${name}: the API server does not have it: `) });
    } finally {
      await watching.stop();
    }
  });

  it('lists the objects whose labels or fields match', async () => {
    await createMap('ours', { app: 'disklift' });
    await createMap('other');
    const names = async (options: { labelSelector?: string; fieldSelector?: string }) =>
      (await api.configMaps.list(namespace, options)).items
        .map(({ metadata }) => metadata.name)
        .filter((name) => name !== 'kube-root-ca.crt');
    assert.deepEqual(await names({}), ['other', 'ours']);
    assert.deepEqual(await names({ labelSelector: 'app=disklift' }), ['ours']);
    assert.deepEqual(await names({ fieldSelector: 'metadata.name=other' }), ['other']);
    assert.deepEqual(await names({ labelSelector: 'app=disklift', fieldSelector: 'metadata.name=other' }), []);
  });

  it('watches the objects whose labels match, and reports one whose label is removed as deleted', async () => {
    const labelSelector = `test=${namespace}`;
    const { resourceVersion } = await api.configMaps.list(namespace, { labelSelector });
    const watching = watch(api.configMaps, { resourceVersion, labelSelector });
    try {
      const { metadata } = await createMap('ours', { test: namespace });
      const { metadata: other } = await createMap('other');
      await api.configMaps.patch(metadata, { patch: { data: { a: '1' } } });
      await api.configMaps.patch(metadata, { patch: { metadata: { labels: { test: null } } } });
      await api.configMaps.patch(metadata, { patch: { data: { a: '2' } } });
      await api.configMaps.patch(other, { patch: { metadata: { labels: { test: namespace } } } });
      await until('the last event', () => watching.events.includes('ADDED other'));
      assert.deepEqual(watching.events, ['ADDED ours', 'MODIFIED ours', 'DELETED ours', 'ADDED other']);
    } finally {
      await watching.stop();
    }
  });

  it('distinguishes an object that a quota forbids from one that RBAC or a policy forbids', async () => {
    await post(`/api/v1/namespaces/${namespace}/resourcequotas`, {
      metadata: { name: 'few' },
      spec: { hard: { persistentvolumeclaims: '1', 'requests.storage': '1Gi' } },
    });
    const status = {
      hard: { persistentvolumeclaims: '1', 'requests.storage': '1Gi' },
      used: { persistentvolumeclaims: '0', 'requests.storage': '0' },
    };
    const quota = `/api/v1/namespaces/${namespace}/resourcequotas/few/status`;
    const patched = await server.request(quota, { method: 'PATCH', body: { status }, contentType: 'application/merge-patch+json' });
    assert.equal(patched.status, 200);
    const create = (name: string) =>
      api.persistentVolumeClaims.create({
        metadata: { namespace, name },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '2Gi' } } },
      });
    // The plugin learns of the quota by a watch of its own.
    let error: unknown;
    for (let attempt = 0; error === undefined && attempt < 50; attempt += 1)
      error = await create(`claim-${attempt}`).then(() => undefined, String);
    const refused = await create('clone').then(
      () => assert.fail('the quota admits it'),
      (reason: unknown) => reason,
    );
    assert.deepEqual(apiFailureOf(refused), { kind: 'QuotaExceeded', status: 403 });
    assert.match(
      (refused as Error).message,
      /^create persistentvolumeclaims \S+\/clone: a quota of the namespace does not allow it: persistentvolumeclaims "clone" is forbidden: exceeded quota: few, requested: /,
    );
    const gone = await api.configMaps
      .create({ metadata: { namespace: 'absent', name: 'a' } })
      .catch((reason: unknown) => apiFailureOf(reason)?.kind);
    assert.equal(gone, 'NotFound');
  });

  it('answers NotFound to a list, a watch and a creation when the CRD is not installed, and no object to a get', async () => {
    const kindOf = (call: Promise<unknown>) => call.then(String, (error: unknown) => apiFailureOf(error)?.kind ?? String(error));
    const { signal } = new AbortController();
    for (const resource of [api.volumeSnapshots, api.volumeSnapshotClasses, api.virtualMachines, api.virtualMachineSnapshotContents]) {
      assert.equal(await kindOf(resource.list(ALL_NAMESPACES)), 'NotFound');
      const events = resource.watch(ALL_NAMESPACES, { resourceVersion: '1', timeoutSeconds: 1, signal });
      assert.equal(await kindOf(events[Symbol.asyncIterator]().next()), 'NotFound');
      assert.equal(await resource.get({ namespace: 'default', name: 'a' }), undefined);
    }
    const snapshot = { metadata: { namespace, name: 'a' }, spec: { source: { persistentVolumeClaimName: 'a' } } };
    assert.equal(await kindOf(api.volumeSnapshots.create(snapshot)), 'NotFound');
  });

  it('patches a Job, a claim and a RoleBinding, and refuses a patch whose resourceVersion is stale', async () => {
    const target = { namespace, name: 'disklift-1' };
    const container = { name: 'disklift', image: 'disklift' };
    const job = await api.jobs.create({
      metadata: { ...target, labels: { 'disklift.dev/export-uid': '1' } },
      spec: { suspend: true, backoffLimit: 3, template: { spec: { restartPolicy: 'Never', containers: [container] } } },
    });
    const claim = await api.persistentVolumeClaims.create({
      metadata: target,
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    });
    await api.serviceAccounts.create({ metadata: target });
    const binding = await api.roleBindings.create({
      metadata: target,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'disklift-worker' },
      subjects: [{ kind: 'ServiceAccount', ...target }],
    });
    const resumed = await api.jobs.patch(target, {
      patch: { metadata: { resourceVersion: job.metadata.resourceVersion }, spec: { suspend: false } },
    });
    assert.equal(resumed.spec.suspend, false);
    assert.equal(resumed.spec.backoffLimit, 3);
    const status = { conditions: [{ type: 'Resizing', status: 'True' }] };
    const { resourceVersion } = claim.metadata;
    const resizing = await api.persistentVolumeClaims.patch(target, {
      patch: { metadata: { resourceVersion }, status },
      subresource: 'status',
    });
    assert.equal(resizing.status?.conditions?.[0]?.type, 'Resizing');
    const unbound = await api.roleBindings.patch(target, { patch: { metadata: { finalizers: ['disklift.dev/test'] }, subjects: null } });
    assert.deepEqual([unbound.subjects, unbound.metadata.finalizers], [undefined, ['disklift.dev/test']]);
    const stale = (object: AnyObject) => ({
      patch: { metadata: { resourceVersion: object.metadata.resourceVersion, labels: { a: 'b' } } },
    });
    const kindOf = (call: Promise<unknown>) => call.then(String, (error: unknown) => apiFailureOf(error)?.kind ?? String(error));
    assert.equal(await kindOf(api.jobs.patch(target, stale(job))), 'Conflict');
    assert.equal(await kindOf(api.persistentVolumeClaims.patch(target, stale(claim))), 'Conflict');
    assert.equal(await kindOf(api.roleBindings.patch(target, stale(binding))), 'Conflict');
    await api.roleBindings.patch(target, { patch: { metadata: { finalizers: [] } } });
  });

  it('reflects objects of a cluster-scoped kind by their names, and objects whose labels match', async () => {
    const shared = { namespace: ALL_NAMESPACES, clock: systemClock, random: Math.random, warn: assert.fail } as const;
    const changes: string[] = [];
    const onKey = (key: string) => void changes.push(key);
    const classes = createReflector({ ...shared, resource: api.storageClasses, onKey: () => {} });
    const maps = createReflector({ ...shared, resource: api.configMaps, labelSelector: `test=${namespace}`, onKey });
    const missing = createReflector({ ...shared, resource: api.volumeSnapshots, isOptional: true, onKey: assert.fail, warn: () => {} });
    const stop = new AbortController();
    const running = Promise.all([classes, maps, missing].map((reflector) => reflector.run(stop.signal)));
    try {
      await createMap('other');
      const { metadata } = await createMap('ours', { test: namespace });
      const target = { namespace: '', name: namespace };
      await api.storageClasses.create({ metadata: target, provisioner: 'example.com/disks' });
      await until('the class', () => classes.get(namespace)?.provisioner === 'example.com/disks');
      await until('the labelled object', () => maps.get(`${namespace}/ours`) !== undefined);
      assert.equal(maps.get(`${namespace}/ours`)?.metadata.uid, metadata.uid);
      await api.configMaps.patch(metadata, { patch: { metadata: { labels: { test: null } } } });
      await until('its removal', () => maps.get(`${namespace}/ours`) === undefined);
      assert.deepEqual([...maps.keys()], []);
      assert.deepEqual([...new Set(changes)], [`${namespace}/ours`]);
      await api.storageClasses.remove(target);
      await until('the removal of the class', () => classes.get(namespace) === undefined);
      await until('the absent kind', () => missing.hasSynced);
    } finally {
      stop.abort();
      await running;
    }
  });
});
