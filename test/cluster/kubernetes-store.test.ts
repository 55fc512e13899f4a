/** The API server as a store of requests: the common contract, and the features that only a cluster has. */

// Runs alone: it counts requests, and a slow export renews its Lease.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import { type ServeOptions, serveRequests } from '../../src/engine/serve-requests.ts';
import type { ExportTarget, ResumeState } from '../../src/targets/contract.ts';
import { itIsARequestStore } from '../contract/request-store.ts';
import { DEFAULT_OPTIONS, openSource } from '../helpers/image-in-process.ts';
import { diskExport } from '../helpers/manifest.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type ApiProxy, type Fault, startApiProxy } from './api-proxy.ts';
import type { ApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { type StoreInProcess, startStore } from './store-in-process.ts';
import { useApiServer } from './use-api-server.ts';

const UPLOAD = { id: 'upload-1', partSize: 5_242_880, fingerprint: 'f' };
const WAIT_MS = 500;

describe('the API server as a request store', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
  });

  describe('in general', () => {
    let proxy: ApiProxy;
    let directory: string;
    before(async () => {
      directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
      proxy = await startApiProxy(api, directory);
    });

    after(async () => {
      await proxy[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
    });

    async function startOutage(fault: Fault): Promise<AsyncDisposable> {
      proxy.fault = () => fault;
      proxy.cut();
      const heal = async () => {
        proxy.fault = () => undefined;
        proxy.cut();
      };
      return { [Symbol.asyncDispose]: heal };
    }

    itIsARequestStore(async () => {
      const namespace = await createNamespace(api);
      const stores: StoreInProcess[] = [];
      return {
        namespace: namespace.name,
        createStore() {
          const started = startStore(proxy, namespace.name);
          stores.push(started);
          return started.store;
        },
        put: async (manifest) => void (await namespace.apply(manifest)),
        edit: async ({ metadata, spec }) => void (await namespace.edit(metadata.name, spec)),
        remove: async (name) => void (await namespace.remove(name)),
        putSecret: (name, stringData) => namespace.secret(name, stringData),
        statusOf: async (name) => (await namespace.get(name))?.status,
        startOutage: (kind) => startOutage(kind === 'hangs' ? 'hang' : { status: 503 }),
        async [Symbol.asyncDispose]() {
          for (const each of stores) await each[Symbol.asyncDispose]();
        },
      };
    });
  });

  describe('serving', () => {
    let namespace: Namespace;
    let started: StoreInProcess;
    let abandoned: ResumeState[];
    beforeEach(async () => {
      namespace = await createNamespace(api);
      started = startStore(api, namespace.name);
      abandoned = [];
    });

    afterEach(() => started[Symbol.asyncDispose]());

    /** Runs a process without volumes. */
    function serve(options: Partial<ServeOptions> = {}): Promise<void> {
      const plan = async () => assert.fail('there is no volume to plan for');
      return serveRequests({
        store: started.store,
        signal: started.signal,
        clock: systemClock,
        random: Math.random,
        hostOf: () => 'host',
        maxConcurrentExports: 2,
        orphanMs: WAIT_MS,
        unservedMs: WAIT_MS,
        warn: () => {},
        refusal: () => 'no process serves the claim',
        plan,
        planLeftovers: async ({ status }) => ({
          checksum: 'None',
          backoffLimit: 0,
          disks: (status?.disks ?? []).map(({ path }) => ({
            path,
            qcow2: { clusterSizeBytes: 65_536, version: 3, refcountBits: 16 },
            zeroDetection: 'content',
            openSource: plan,
            createTarget: async () => ({ send: plan, abandon: async (upload) => void abandoned.push(upload) }),
          })),
        }),
        observers: [],
        ...options,
      });
    }

    /** Leaves an object as a process does that is killed while it has an upload open. */
    async function leaveUpload(name: string): Promise<void> {
      await namespace.apply(diskExport(name, { http: { url: 'http://sink.example/x' } }));
      const status = { phase: 'Streaming', startTime: '2026-01-01T00:00:00Z', disks: [{ path: 'a.img', upload: UPLOAD }] };
      const contentType = 'application/merge-patch+json';
      for (const [place, body] of [
        [`diskexports/${name}/status`, { status }],
        [`diskexports/${name}`, { metadata: { finalizers: ['other.example/x', 'disklift.dev/cleanup'] } }],
      ] as const)
        assert.equal((await namespace.request(place, { method: 'PATCH', body, contentType })).status, 200);
    }

    it('drops the upload of a deleted export without an owner, and removes no finalizer but its own', async () => {
      await leaveUpload('orphan');
      const serving = serve();
      await sleep(WAIT_MS * 2);
      assert.deepEqual(abandoned, [], 'somebody may come and go on with it');
      await namespace.remove('orphan');
      const object = await namespace.until('orphan', (there) => there?.metadata.finalizers?.length === 1);
      assert.deepEqual(object?.metadata.finalizers, ['other.example/x']);
      assert.deepEqual(
        abandoned.map(({ id }) => id),
        [UPLOAD.id],
      );
      await started[Symbol.asyncDispose]();
      await serving;
    });

    it('leaves a deleted export to its living owner, and takes it over when the Lease has expired', async () => {
      await leaveUpload('owned');
      const { metadata } = (await namespace.get('owned')) ?? assert.fail();
      const spec = { holderIdentity: 'another', leaseDurationSeconds: 3, renewTime: '2026-01-01T00:00:00.000000Z' };
      const lease = { metadata: { name: `disklift-${metadata.uid}` }, spec };
      assert.equal((await namespace.request('leases', { method: 'POST', body: lease })).status, 201);
      void serve();
      await namespace.remove('owned');
      await sleep(WAIT_MS * 3);
      assert.deepEqual(abandoned, []);
      await until('the upload is dropped', () => abandoned.length > 0);
    });

    it('waits for the Lease of a dead owner and for a sidecar of the volume at the same time, not one after the other', async () => {
      await leaveUpload('orphan');
      const { metadata } = (await namespace.get('orphan')) ?? assert.fail();
      const spec = { holderIdentity: 'killed', leaseDurationSeconds: 4, renewTime: '2026-01-01T00:00:00.000000Z' };
      const lease = { metadata: { name: `disklift-${metadata.uid}` }, spec };
      assert.equal((await namespace.request('leases', { method: 'POST', body: lease })).status, 201);
      void serve({ orphanMs: 4000 });
      const startMs = performance.now();
      await namespace.remove('orphan');
      await until('the upload is dropped', () => abandoned.length > 0);
      const tookMs = performance.now() - startMs;
      assert.ok(tookMs > 3900 && tookMs < 6000, `${tookMs} ms`);
    });

    it('seldom asks for the Lease of an export that another process runs', async () => {
      await namespace.apply(diskExport('theirs', { http: { url: 'http://sink.example/x' } }));
      const { metadata } = (await namespace.get('theirs')) ?? assert.fail();
      const lease = { metadata: { name: `disklift-${metadata.uid}` }, spec: { holderIdentity: 'another', leaseDurationSeconds: 300 } };
      assert.equal((await namespace.request('leases', { method: 'POST', body: lease })).status, 201);
      await started[Symbol.asyncDispose]();
      // It checks again after ten seconds.
      started = startStore(api, namespace.name, 30);
      void serve({ refusal: () => undefined });
      await until('a look', () => started.requests.some(({ resource }) => resource === 'leases'));
      await sleep(WAIT_MS * 3);
      const looks = started.requests.filter(({ resource }) => resource === 'leases').map(({ verb }) => verb);
      assert.deepEqual(looks, ['create', 'get']);
    });

    it('reports by one event that no sidecar serves the volume of an export, and not for exports that were begun', async () => {
      await leaveUpload('begun');
      void serve();
      await namespace.apply(diskExport('lonely', { http: { url: 'http://sink.example/x' } }));
      await until('the event', async () => (await namespace.events('lonely')).length > 0);
      assert.deepEqual([await namespace.events('lonely'), await namespace.events('begun')], [['VolumeNotServed'], []]);
      assert.equal((await namespace.get('lonely'))?.status?.observedGeneration, undefined);
      // After an edit every sidecar checks the export again.
      assert.equal((await namespace.edit('lonely', { ttlSecondsAfterFinished: 60 })).status, 200);
      await sleep(WAIT_MS * 5);
      const { body } = await namespace.request('events?fieldSelector=reason=VolumeNotServed');
      assert.deepEqual(
        (body.items as { count: number }[]).map(({ count }) => count),
        [1],
      );
    });

    it('sends at most ten requests to the API server for an export that takes no time', async () => {
      const diskPath = await createDisk(temp('disk.img'), 1024 * 1024, [{ offsetBytes: 0, lengthBytes: 4096, content: 'random' }]);
      const target: ExportTarget = {
        async send({ sizeBytes }, { seal }) {
          await seal();
          return { location: 'here', sizeBytes, proof: 'status' };
        },
        abandon: () => assert.fail('nothing is open'),
      };
      const disk = { path: 'disk.img', qcow2: DEFAULT_OPTIONS, zeroDetection: 'content' as const };
      const disks = [{ ...disk, openSource: () => openSource(diskPath), createTarget: async () => target }];
      void serve({ refusal: () => undefined, plan: async () => ({ checksum: 'None', backoffLimit: 0, disks }) });
      const names = Array.from({ length: 30 }, (_, index) => `e${index}`);
      for (const name of names) await namespace.apply(diskExport(name, { http: { url: 'http://sink.example/x' } }));
      for (const name of names) assert.equal((await namespace.finished(name)).phase, 'Succeeded');
      await until('no Lease is left', async () => (await namespace.leases()).length === 0);
      const counts = new Map<string, number>();
      for (const { verb, resource } of started.requests) counts.set(`${verb} ${resource}`, (counts.get(`${verb} ${resource}`) ?? 0) + 1);
      const count = (request: string) => (counts.get(request) ?? 0) / names.length;
      assert.deepEqual([count('create leases'), count('delete leases'), count('update leases')], [1, 1, 0]);
      // Queued, claimed, begun, done.
      assert.ok(count('patch diskexports/status') <= 4, `${count('patch diskexports/status')}`);
      assert.ok(started.requests.length / names.length <= 10, JSON.stringify([...counts]));
    });

    it('removes its finalizers when it closes, also from exports that it does not work on at the moment', async () => {
      await leaveUpload('left');
      const contentType = 'application/merge-patch+json';
      const status = { phase: 'Cancelled', completionTime: '2026-01-01T00:01:00Z' };
      await namespace.request('diskexports/left/status', { method: 'PATCH', body: { status }, contentType });
      let attempts = 0;
      const serving = serve({
        planLeftovers: async () => {
          attempts += 1;
          throw new DiskliftError('DestinationUnreachable', 'is away');
        },
      });
      await until('an attempt', () => attempts > 0);
      assert.equal((await namespace.get('left'))?.metadata.finalizers?.length, 2);
      const { store } = started;
      await until('the claim is released', async () => (await namespace.leases()).length === 0);
      await store.close();
      assert.deepEqual((await namespace.get('left'))?.metadata.finalizers, ['other.example/x']);
      await started[Symbol.asyncDispose]();
      await serving;
    });
  });
});
