/**
 * A user who may only create DiskExports tries to reach more than that, with real processes: SECURITY.md has the table.
 */

import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import type http from 'node:http';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import type { Sidecar } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { applyChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';

const MIB = 1024 * 1024;
const FINALIZERS = ['disklift.dev/cleanup'];

/** An address outside of the loopback, which an export could reach without a policy. */
const MACHINE_ADDRESS = Object.values(os.networkInterfaces())
  .flatMap((each = []) => each)
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address;

describe('a tenant', function () {
  this.timeout(180_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let sink: HttpSink;
  let kubeconfig: string;

  before(async function () {
    if (usesExistingCluster() || MACHINE_ADDRESS === undefined) this.skip();
    api = await startApiServer(requireBinaries(this), { controllerManager: true, advertiseAddress: MACHINE_ADDRESS });
    await installCrd(api);
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    ({ kubeconfig } = await applyChartAccount(api, namespace.name));
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    await writeFile(temp('outside.img'), Buffer.alloc(MIB, 's'));
    sink = await startHttpSink();
  });

  afterEach(() => sink?.[Symbol.asyncDispose]());

  /** Starts a sidecar with the chart's Role, which may send to the receivers of the tests. */
  const start = (env: Record<string, string> = {}): Promise<Sidecar> =>
    namespace.start({ volumes: [`claim=${temp('volume')}`], flags: ['--kubeconfig', kubeconfig, '--max-concurrent-exports', '20'], env });

  const toSink = (name: string, spec: Record<string, unknown> = {}) => diskExport(name, { http: { url: `${sink.url}/${name}` } }, spec);

  /** Waits long, because the controller of namespaces increases its delay at each attempt. */
  async function namespaceGone(): Promise<void> {
    for (let waitedMs = 0; (await api.request(`/api/v1/namespaces/${namespace.name}`)).status !== 404; waitedMs += 200) {
      assert.ok(waitedMs < 60_000, 'the namespace is still there');
      await sleep(200);
    }
  }

  async function messageOf(name: string): Promise<string> {
    const { phase, message = '' } = await namespace.finished(name);
    assert.equal(phase, 'Failed', message);
    return message;
  }

  describe('that names destinations inside the cluster', () => {
    const PLACES: [name: string, url: string, message: RegExp, env?: Record<string, string>][] = [
      ['api', `https://${MACHINE_ADDRESS}/api/v1/secrets`, /it is the API server/],
      ['api-embedded', `https://[::ffff:${MACHINE_ADDRESS}]/`, /it is the API server/],
      ['api-service', 'https://10.0.0.1/api', /it is the API server/],
      ['api-name', 'https://kubernetes.default.svc/api', /it is the API server/],
      ['service', 'http://minio.store.svc/x', /it lies in the cluster/],
      ['service-full', 'http://minio.store.svc.cluster.local./x', /it lies in the cluster/],
      ['service-address', 'http://10.0.77.7/x', /it lies in the cluster/],
      ['node', 'http://198.51.100.9:10250/pods', /it is the node of this pod/],
      ['metadata', 'http://169.254.169.254/latest', /does not allow it/],
      ['metadata-number', 'http://2852039166/latest', /does not allow it/],
      ['metadata-mapped', 'http://[::ffff:169.254.169.254]/latest', /does not allow it/],
      ['metadata-nat64', 'http://[64:ff9b::a9fe:a9fe]/latest', /does not allow it/],
      ['metadata-aws', 'http://[fd00:ec2::254]/latest', /does not allow it/],
      ['metadata-google', 'http://metadata.google.internal/computeMetadata/v1/', /does not allow it/],
      ['loopback', 'http://127.0.0.2/x', /does not allow it/],
      ['loopback-name', 'http://localhost/x', /does not allow it/],
      ['loopback-ipv6', 'http://[::1]/x', /does not allow it/],
      ['link-local', 'http://[fe80::1]/x', /does not allow it/],
    ];
    const IN_A_POD = { KUBERNETES_SERVICE_HOST: '10.0.0.1', DISKLIFT_NODE_ADDRESSES: '198.51.100.9' };

    it('gets each of them refused before a byte is sent', async () => {
      await using _sidecar = await start(IN_A_POD);
      for (const [name, url] of PLACES) await namespace.apply(diskExport(name, { http: { url } }));
      await namespace.apply(diskExport('over-tcp', { tcp: { host: MACHINE_ADDRESS, port: 6443, protocol: 'Raw' } }));
      for (const [name, , message] of PLACES) assert.match(await messageOf(name), message, name);
      assert.match(await messageOf('over-tcp'), /it is the API server/);
      assert.equal(
        (await namespace.get('api'))?.status?.conditions?.find(({ type }) => type === 'Succeeded')?.reason,
        'DestinationNotAllowed',
      );
    });

    it('gets them refused behind a redirect, and learns nothing about them', async () => {
      await using _sidecar = await start(IN_A_POD);
      const names: string[] = [];
      for (const [name, url] of PLACES) {
        const onExpect = (_request: unknown, response: http.ServerResponse) => response.writeHead(307, { Location: url }).end();
        const redirecting = await startHttpSink({ onExpect });
        after(() => redirecting[Symbol.asyncDispose]());
        names.push(`to-${name}`);
        await namespace.apply(diskExport(`to-${name}`, { http: { url: `${redirecting.url}/x` } }));
      }
      for (const [index, name] of names.entries()) assert.match(await messageOf(name), PLACES[index]?.[2] ?? /^$/, name);
    });

    it('reaches Services if the operator allows it, and never the API server', async () => {
      await using _sidecar = await start({ ...IN_A_POD, DISKLIFT_DESTINATION_SCOPE: 'Cluster' });
      await namespace.apply(diskExport('service', { http: { url: 'http://minio.store.svc.invalid/x' } }, { backoffLimit: 0 }));
      await namespace.apply(diskExport('address', { http: { url: 'http://10.0.77.7/x' } }, { backoffLimit: 0, activeDeadlineSeconds: 5 }));
      await namespace.apply(diskExport('api', { http: { url: `https://${MACHINE_ADDRESS}/` } }));
      assert.match(await messageOf('api'), /it is the API server/);
      for (const name of ['service', 'address']) assert.doesNotMatch(await messageOf(name), /does not allow it/);
    });
  });

  it('reads no file outside of the claim, and no claim that is not served', async () => {
    await symlink(temp('outside.img'), temp('volume/link.img'));
    await symlink(temp('.'), temp('volume/folder'));
    await using _sidecar = await start();
    for (const path of ['../outside.img', '/etc/passwd', 'a/../../outside.img', './disk.img', 'a//b']) {
      const outside = toSink('outside', { source: { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path }] } });
      const body = { ...outside, metadata: { name: 'outside', namespace: namespace.name } };
      assert.equal((await namespace.request('diskexports', { method: 'POST', body })).status, 422, path);
    }
    for (const [name, path] of [
      ['by-link', 'link.img'],
      ['by-folder', 'folder/outside.img'],
      ['by-pattern', 'folder/*.img'],
    ] as const) {
      await namespace.apply(toSink(name, { source: { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path }] } }));
      await messageOf(name);
    }
    await namespace.apply(toSink('other', { source: { persistentVolumeClaim: { claimName: 'other' } } }));
    await namespace.apply(toSink('mine'));
    assert.equal((await namespace.finished('mine')).phase, 'Succeeded');
    assert.equal((await namespace.get('other'))?.status?.startTime, undefined);
    assert.deepEqual([...sink.complete.keys()], ['/mine']);
  });

  it('learns nothing about Secrets: missing ones, unlabelled ones and those of another namespace give the same message', async () => {
    const other = await createNamespace(api);
    await other.secret('theirs', { Authorization: 'Bearer theirs' });
    const body = { metadata: { name: 'unlabelled' }, stringData: { Authorization: 'Bearer unlabelled' } };
    assert.equal((await namespace.request('secrets', { method: 'POST', body })).status, 201);
    await using sidecar = await start();
    const names = ['missing', 'unlabelled', 'theirs'];
    for (const name of names)
      await namespace.apply(diskExport(name, { http: { url: `${sink.url}/x`, headersSecretRef: { name } } }, { backoffLimit: 1 }));
    const seen: string[] = [];
    for (const name of names) {
      await messageOf(name);
      const { status } = (await namespace.get(name)) ?? {};
      const { body: events } = await namespace.request(`events?fieldSelector=involvedObject.name=${name}`);
      const shown = { status, events: events.items.map(({ reason, message }: Record<string, string>) => `${reason}: ${message}`).sort() };
      const times = /\d{4}-\d\d-\d\dT[\d:.]+Z|the next in \d+ s|(?<="duration":")\w+/g;
      seen.push(JSON.stringify(shown).replaceAll(name, 'NAME').replaceAll(times, 'TIME'));
    }
    for (const each of seen.slice(1)) assert.equal(each, seen[0]);
    assert.match(sidecar.output(), /Secret \S+\/missing does not exist/);
    assert.match(sidecar.output(), /Secret \S+\/unlabelled has no label/);
    assert.equal(sink.requests.length, 0);
    const headersSecretRef = { name: 'theirs', namespace: other.name };
    const metadata = { name: 'elsewhere', namespace: namespace.name };
    const elsewhere = { ...diskExport('elsewhere', { http: { url: `${sink.url}/x`, headersSecretRef } }), metadata };
    const strict = await namespace.request('diskexports?fieldValidation=Strict', { method: 'POST', body: elsewhere });
    assert.equal(strict.status, 400, 'the resource has no field for it');
  });

  it('can add labels and annotations up to the limit of the API server without harm', async () => {
    await using sidecar = await start();
    const many = (count: number, value: string) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`tenant.example/label-${index}`, value]));
    const manifest = toSink('adorned');
    const metadata = {
      name: 'adorned',
      namespace: namespace.name,
      labels: many(2000, 'x'.repeat(63)),
      annotations: many(1, 'y'.repeat(250_000)),
    };
    const answer = await namespace.request('diskexports', { method: 'POST', body: { ...manifest, metadata } });
    assert.equal(answer.status, 201, JSON.stringify(answer.body.message));
    const { phase, message } = await namespace.finished('adorned');
    assert.equal(phase, 'Succeeded', message);
    assert.doesNotMatch(`${await (await sidecar.get('/metrics')).text()}${sidecar.output()}`, /tenant\.example/);
  });

  describe('that puts a finalizer on an export that no sidecar serves', () => {
    async function hold(): Promise<void> {
      const held = toSink('held', { source: { persistentVolumeClaim: { claimName: 'nobody-serves' } } });
      const metadata = { name: 'held', namespace: namespace.name, finalizers: FINALIZERS };
      assert.equal((await namespace.request('diskexports', { method: 'POST', body: { ...held, metadata } })).status, 201);
    }

    it('cannot keep the export from being deleted where a sidecar runs', async () => {
      await using _sidecar = await start();
      await hold();
      await namespace.remove('held');
      const endMs = performance.now() + 100_000;
      while ((await namespace.get('held')) !== undefined) {
        assert.ok(performance.now() < endMs, 'the export is still there');
        await sleep(500);
      }
    });

    it('keeps a namespace without a sidecar from being deleted, until an administrator removes the finalizer', async () => {
      await hold();
      assert.equal((await api.kubectl('delete', 'namespace', namespace.name, '--wait=false')).code, 0);
      await sleep(3000);
      assert.deepEqual((await namespace.get('held'))?.metadata.finalizers, FINALIZERS);
      const patch = ['--type', 'merge', '--patch', '{"metadata": {"finalizers": null}}'];
      assert.equal((await api.kubectl('--namespace', namespace.name, 'patch', 'diskexport', 'held', ...patch)).code, 0);
      await namespaceGone();
    });
  });
});
