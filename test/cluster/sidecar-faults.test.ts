/** Faults between a sidecar and the API server: the sidecar survives, exports end right, and none is sent twice. */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../../src/common/bytes.ts';
import { diskExport } from '../helpers/manifest.ts';
import type { Sidecar } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { type StallingSink, startStallingSink } from '../helpers/stalling-sink.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type ApiProxy, type Fault, startApiProxy } from './api-proxy.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';
import { loosenCrd } from './loosen-crd.ts';

/** The lease duration that the sidecars are started with. */
const LEASE_MS = 4000;
const TROUBLE_MS = 6000;

describe('a sidecar whose API server', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let proxy: ApiProxy;
  let sink: StallingSink;
  let sidecar: Sidecar;

  before(async function () {
    api = await startApiServer(requireBinaries(this));
    await installCrd(api);
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    proxy = await startApiProxy(api, temp('.'));
    sink = await startStallingSink();
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 32 * MIB, [{ offsetBytes: MIB, lengthBytes: 24 * MIB, content: 'random' }]);
    sidecar = await start();
  });

  afterEach(async () => {
    await sidecar?.[Symbol.asyncDispose]();
    await sink?.[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  const start = (): Promise<Sidecar> =>
    namespace.start({ volumes: [`claim=${temp('volume')}`], flags: ['--kubeconfig', proxy.kubeconfig] });

  async function apply(name: string): Promise<void> {
    await namespace.apply(diskExport(name, { http: { url: `${sink.url}/${name}` } }));
  }

  /** Runs an export until its peer has the head of the request and its status is Streaming. */
  async function begin(name: string): Promise<void> {
    await apply(name);
    await sink.begun(1);
    await namespace.until(name, (object) => object?.status?.phase === 'Streaming');
  }

  async function assertSentOnce(...names: string[]): Promise<void> {
    for (const name of names) {
      const { phase, attempts, message } = await namespace.finished(name);
      assert.deepEqual([phase, attempts], ['Succeeded', 1], message);
    }
    assert.deepEqual(sink.requests.map(({ url }) => url).sort(), names.map((name) => `/${name}`).sort());
    assert.equal(sink.complete.size, names.length);
    assert.equal(await sidecar.stop(), 0, sidecar.output());
    assert.deepEqual(await namespace.leases(), []);
  }

  /** Every request fails for a while: one export is under way, one is created meanwhile, and one afterwards. */
  async function runInto(fault: Fault): Promise<void> {
    await begin('first');
    proxy.fault = () => fault;
    proxy.cut();
    const before = proxy.requests.length;
    await apply('second');
    // The last confirmed renewal of the Lease has expired by then.
    await sleep(LEASE_MS);
    sink.goOn();
    await sleep(TROUBLE_MS - LEASE_MS);
    assert.equal(sink.complete.size, 0, 'a sidecar commits nothing while its ownership is unknown');
    const refused = proxy.requests.length - before;
    assert.ok(refused > 3 && refused < 60, `${refused} requests in ${TROUBLE_MS} ms`);
    proxy.fault = () => undefined;
    await apply('third');
    await assertSentOnce('first', 'second', 'third');
  }

  it('answers every request with 500 for a while', () => runInto({ status: 500 }));

  it('answers every request with 429 for a while', () => runInto({ status: 429, headers: { 'retry-after': '1' } }));

  it('does what is requested, but its answers are lost', async () => {
    sink.goOn();
    const lost = new Set<string>();
    proxy.fault = (what) => {
      if (what.endsWith(' watch') || lost.has(what)) return undefined;
      lost.add(what);
      return 'lost';
    };
    await apply('first');
    await apply('second');
    await assertSentOnce('first', 'second');
    for (const what of ['leases create', 'diskexports/status patch', 'events create', 'leases delete', 'pods list'])
      assert.ok(lost.has(what), what);
  });

  it('sends nothing more in its watch, and cuts the watch at last', async () => {
    await begin('first');
    sink.goOn();
    proxy.fault = (what) => (what.endsWith(' watch') ? 'silent' : undefined);
    proxy.cut();
    await until('a silent watch', () => proxy.requests.some(({ fault }) => fault === 'silent'));
    await apply('second');
    // Its final status needs no watch.
    await namespace.finished('first');
    assert.equal((await namespace.get('second'))?.status?.startTime, undefined);
    proxy.fault = () => undefined;
    proxy.cut();
    await assertSentOnce('first', 'second');
  });

  it('is restarted, and its history is compacted', async function () {
    if (api.outage === undefined) return this.skip();
    await begin('first');
    await api.outage.kill();
    await api.outage.compact();
    await api.outage.restart();
    sink.goOn();
    await apply('second');
    await assertSentOnce('first', 'second');
  });

  it('has malformed objects', async () => {
    sink.goOn();
    await sidecar.stop();
    await loosenCrd(api, namespace);
    const { spec } = diskExport('good', { http: { url: `${sink.url}/unsent` } });
    const malformed: Record<string, object> = {
      'no-spec': {},
      'text-spec': { spec: 'text' },
      'no-destination': { spec: { ...spec, destination: {} } },
      'text-status': { spec, status: 'text' },
      'text-disks': { spec, status: { startTime: '2026-01-01T00:00:00Z', disks: 'text' } },
      'wrong-start': { spec, status: { startTime: 'then' } },
      'text-upload': { spec, status: { startTime: '2026-01-01T00:00:00Z', disks: [{ path: 'disk.img', upload: 'text' }, null] } },
      'wrong-end': { spec, status: { completionTime: 7, conditions: {} } },
    };
    try {
      for (const [name, fields] of Object.entries(malformed)) {
        const { apiVersion, kind } = diskExport(name, {});
        const body = { apiVersion, kind, metadata: { name }, ...fields };
        assert.equal((await namespace.request('diskexports', { method: 'POST', body })).status, 201);
        const patch = { method: 'PATCH', body: fields, contentType: 'application/merge-patch+json' } as const;
        assert.equal((await namespace.request(`diskexports/${name}/status`, patch)).status, 200);
      }
      sidecar = await start();
      await apply('good');
      const { phase, message } = await namespace.finished('good');
      assert.equal(phase, 'Succeeded', message);
      for (const name of Object.keys(malformed)) {
        const failed = await namespace.until(name, (object) => object?.status?.phase === 'Failed');
        const reason = failed?.status?.conditions?.find(({ type }) => type === 'Finished')?.reason;
        assert.equal(reason, 'InvalidRequest', `${name}: ${failed?.status?.message}`);
      }
      assert.deepEqual(
        sink.requests.map(({ url }) => url),
        ['/good'],
      );
      assert.doesNotMatch(sidecar.output(), /internal error/);
    } finally {
      for (const name of Object.keys(malformed)) await namespace.remove(name);
      await installCrd(api);
    }
  });
});
