/** The client and the reflector on a real API server, also when the server fails. */

import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../../src/common/clock.ts';
import { createReflector, type RunningReflector } from '../../src/stores/kubernetes/cache/reflector.ts';
import type { ApiAccess } from '../../src/stores/kubernetes/client/api-access.ts';
import { apiFailureOf } from '../../src/stores/kubernetes/client/api-failure.ts';
import { ALL_NAMESPACES, type KubeApi, type Unsaved } from '../../src/stores/kubernetes/client/contract.ts';
import { createKubeApi } from '../../src/stores/kubernetes/client/kube-api.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import type { ExportObject, LeaseObject } from '../../src/stores/kubernetes/client/objects.ts';
import { changed } from '../fixtures/request-table.ts';
import { until } from '../helpers/until.ts';
import { type ApiServer, type Outage, startApiServer } from './api-server.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';

describe('a reflector on an API server', function () {
  this.timeout(90_000);
  let server: ApiServer;
  let access: ApiAccess;
  let api: KubeApi;
  let requests: string[] = [];
  let end: AbortController;
  let running: Promise<void>;
  let keys: string[];
  let reflector: RunningReflector<ExportObject>;
  let count = 0;

  before(async function () {
    server = await startApiServer(requireBinaries(this));
    await installCrd(server);
    access = createKubeconfigAccess({ kubeconfig: server.kubeconfig });
    const onRequest = ({ verb, resource }: { verb: string; resource: string }) => requests.push(`${verb} ${resource}`);
    api = createKubeApi({ access, clock: systemClock, userAgent: 'disklift/test', onRequest });
  });

  beforeEach(() => {
    keys = [];
    requests = [];
    const rest = { clock: systemClock, random: Math.random, warn: () => {} };
    reflector = createReflector({ resource: api.exports, namespace: 'default', onKey: (key) => keys.push(key), ...rest });
    run();
  });

  afterEach(stopRunning);

  after(async () => {
    await access?.close();
    await server?.stop();
  });

  function run(): void {
    end = new AbortController();
    running = reflector.run(end.signal);
  }

  async function stopRunning(): Promise<void> {
    end?.abort();
    await running;
  }

  function requireOutage(context: Mocha.Context): Outage {
    return server.outage ?? context.skip();
  }

  async function create(): Promise<ExportObject> {
    count += 1;
    return api.exports.create(changed({ 'metadata.name': `e-${count}`, 'metadata.namespace': 'default' }) as Unsaved<ExportObject>);
  }

  const keyOf = ({ metadata }: ExportObject) => `${metadata.namespace}/${metadata.name}`;

  function known(object: ExportObject): ExportObject | undefined {
    return reflector.get(keyOf(object));
  }

  it('sees objects that are created, changed and deleted, with two requests', async () => {
    const before = await create();
    await until('the first list', () => reflector.hasSynced);
    await until('the existing object', () => known(before) !== undefined);
    const object = await create();
    await until('the created object', () => known(object) !== undefined);
    await api.exports.patch(object.metadata, { patch: { metadata: { labels: { a: 'b' } } } });
    await until('the changed object', () => known(object)?.metadata.labels?.a === 'b');
    await api.exports.patch(object.metadata, { patch: { status: { phase: 'Scanning' } }, subresource: 'status' });
    await until('its status', () => (known(object)?.status as { phase?: string } | undefined)?.phase === 'Scanning');
    assert.equal(await api.exports.remove(object.metadata, { uid: object.metadata.uid }), true);
    await until('the deletion', () => known(object) === undefined);
    assert.equal(keys.filter((key) => key === keyOf(object)).length, 4);
    assert.deepEqual(
      requests.filter((request) => /^(list|watch)/.test(request)),
      ['list diskexports', 'watch diskexports'],
    );
  });

  it('survives a crash of the server', async function () {
    const outage = requireOutage(this);
    await until('the first list', () => reflector.hasSynced);
    const gone = await create();
    await until('an object', () => known(gone) !== undefined);
    await outage.kill();
    await until('the problem is reported', () => reflector.problem !== undefined);
    assert.match(reflector.problem?.message ?? '', /diskexports of default: the API server does not answer as it should/);
    const failed = await api.exports.get(gone.metadata).catch((error: unknown) => apiFailureOf(error));
    assert.deepEqual(failed, { kind: 'Unavailable', status: undefined });
    assert.ok(known(gone) !== undefined, 'what was known stays known');
    await outage.restart();
    await api.exports.remove(gone.metadata);
    const added = await create();
    await until('what came meanwhile', () => known(added) !== undefined);
    await until('the deletion of that time', () => known(gone) === undefined);
    assert.equal(reflector.problem, undefined);
  });

  it('lists again when the server no longer has its resource version', async function () {
    const outage = requireOutage(this);
    const gone = await create();
    await until('an object', () => known(gone) !== undefined);
    await stopRunning();
    await api.exports.remove(gone.metadata);
    const added = await create();
    await outage.compact();
    await outage.kill();
    await outage.restart();
    await until('the client has detected it', () =>
      api.exports
        .get(added.metadata)
        .catch(() => undefined)
        .then(Boolean),
    );
    requests = [];
    run();
    await until('what came meanwhile', () => known(added) !== undefined);
    assert.equal(known(gone), undefined);
    await until('the next watch', () => requests.length >= 3);
    assert.deepEqual(requests, ['watch diskexports', 'list diskexports', 'watch diskexports']);
  });

  it('keeps the ConfigMaps of all namespaces, and lists them again after 410', async function () {
    const outage = requireOutage(this);
    await stopRunning();
    assert.equal((await server.kubectl('create', 'namespace', 'other')).code, 0);
    const createMap = (namespace: string, name: string) => api.configMaps.create({ metadata: { namespace, name }, data: { a: '1' } });
    const early = await createMap('default', 'early');
    const changes: string[] = [];
    const shared = { clock: systemClock, random: Math.random, warn: () => {} };
    const maps = createReflector({
      resource: api.configMaps,
      namespace: ALL_NAMESPACES,
      onKey: (key) => changes.push(key),
      ...shared,
    });
    const runMaps = () => {
      const stop = new AbortController();
      const ended = maps.run(stop.signal);
      return () => {
        stop.abort();
        return ended;
      };
    };
    let stopMaps = runMaps();
    try {
      await until('the listed ConfigMap', () => maps.get('default/early') !== undefined);
      await createMap('other', 'late');
      await until('the watched ConfigMap', () => maps.get('other/late')?.data?.a === '1');
      assert.equal(changes.filter((key) => key === 'other/late').length, 1);
      await stopMaps();

      await api.configMaps.remove(early.metadata);
      await createMap('other', 'later');
      await outage.compact();
      await outage.kill();
      await outage.restart();
      await until('a new connection', () =>
        api.configMaps.get(early.metadata).then(
          () => true,
          () => false,
        ),
      );
      requests = [];
      stopMaps = runMaps();
      await until('the ConfigMap that was created while no watch was open', () => maps.get('other/later') !== undefined);
      assert.equal(maps.get('default/early'), undefined);
      await until('the next watch', () => requests.length >= 3);
      assert.deepEqual(requests, ['watch configmaps', 'list configmaps', 'watch configmaps']);
    } finally {
      await stopMaps();
    }
  });

  it('gives up a request to a server that hangs, and retries on new connections', async function () {
    const outage = requireOutage(this);
    const object = await create();
    outage.freeze();
    try {
      const call = api.exports.get(object.metadata, { limitMs: 300 });
      await assert.rejects(call, { code: 'StoreUnavailable', retryable: true, message: /no answer in 0.3 s/ });
    } finally {
      outage.thaw();
    }
    assert.ok((await api.exports.get(object.metadata)) !== undefined);
    await until('the object', () => known(object) !== undefined);
  });

  it('keeps its connections through a pause as long as between two renewals of a Lease', async () => {
    const connected: unknown[] = [];
    const onConnected = (message: unknown) => connected.push(message);
    await until('the first list', () => reflector.hasSynced);
    const object = await create();
    await until('the object', () => known(object) !== undefined);
    subscribe('undici:client:connected', onConnected);
    try {
      for (let call = 0; call < 50; call += 1) await api.exports.get(object.metadata);
      // The next call may begin before the connection of the last one is free again.
      assert.ok(connected.length <= 1, `${connected.length} new connections`);
      await delay(6000);
      await api.exports.get(object.metadata);
      assert.ok(connected.length <= 1, `${connected.length} new connections`);
    } finally {
      unsubscribe('undici:client:connected', onConnected);
    }
  });

  it('ends within a second when it is stopped', async () => {
    await until('the first list', () => reflector.hasSynced);
    const startMs = performance.now();
    await stopRunning();
    assert.ok(performance.now() - startMs < 1000);
  });

  it('distinguishes conflicts, invalid objects, missing objects and objects that exist already', async () => {
    const object = await create();
    const kindOf = (call: Promise<unknown>) => call.then(String, (error: unknown) => apiFailureOf(error)?.kind ?? String(error));
    const { name, namespace, resourceVersion } = object.metadata;
    const stale = { metadata: { resourceVersion }, status: { phase: 'Scanning' } };
    await api.exports.patch(object.metadata, { patch: { metadata: { labels: { a: 'b' } } } });
    assert.equal(await kindOf(api.exports.patch(object.metadata, { patch: stale, subresource: 'status' })), 'Conflict');
    assert.equal(await kindOf(api.exports.remove(object.metadata, { uid: 'of-another' })), 'Conflict');
    assert.equal(await kindOf(api.exports.patch(object.metadata, { patch: { spec: { backoffLimit: -1 } } })), 'Invalid');
    assert.equal(await kindOf(api.exports.patch({ namespace, name: 'absent' }, { patch: {} })), 'NotFound');
    assert.equal(await api.exports.remove({ namespace, name: 'absent' }), false);
    assert.equal(await api.exports.get({ namespace, name: 'absent' }), undefined);
    const lease: Unsaved<LeaseObject> = {
      metadata: {
        namespace,
        name,
        ownerReferences: [{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', name, uid: object.metadata.uid }],
      },
      spec: { holderIdentity: 'me', leaseDurationSeconds: 30, renewTime: '2026-01-01T00:00:00.123456Z' },
    };
    const held = await api.leases.create(lease);
    assert.equal(held.spec?.renewTime, '2026-01-01T00:00:00.123456Z');
    assert.equal(await kindOf(api.leases.create(lease)), 'AlreadyExists');
    await api.leases.replace({ ...held, spec: { ...held.spec, holderIdentity: 'other' } });
    assert.equal(await kindOf(api.leases.replace(held)), 'Conflict');
  });
});
