/** Early ends of exports in a cluster: nothing is left behind, and no finalizer blocks a deletion. */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { startHttpSink } from '../helpers/http-sink.ts';
import { diskExport, type Manifest } from '../helpers/manifest.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import type { Sidecar } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { startStallingSink } from '../helpers/stalling-sink.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';

const MIB = 1024 * 1024;
const FINALIZERS = ['disklift.dev/cleanup'];
const PARTS_BEFORE = 2;

describe('the end of an export in a cluster', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let s3: S3Fake;
  let volumes: string[];

  before(async function () {
    api = await startApiServer(requireBinaries(this), { controllerManager: true });
    await installCrd(api);
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 32 * MIB, [{ offsetBytes: MIB, lengthBytes: 24 * MIB, content: 'random' }]);
    volumes = [`claim=${temp('volume')}`];
    s3 = await startS3Fake();
  });

  afterEach(() => s3?.[Symbol.asyncDispose]());

  function toS3(name: string, spec: Record<string, unknown> = {}, endpoint = s3.url): Manifest {
    return diskExport(name, s3InParts(endpoint, '{name}.qcow2'), spec);
  }

  /** Runs a sidecar until some parts have arrived and the next one hangs. */
  async function uploadSomeParts(request = toS3('long')): Promise<Sidecar> {
    s3.quirks.push({ operation: 'UploadPart', after: PARTS_BEFORE, does: 'hang' });
    const sidecar = await namespace.start({ volumes });
    await namespace.apply(request);
    await until('some parts', () => s3.count('UploadPart') > PARTS_BEFORE);
    assert.equal(s3.store.uploads.size, 1);
    assert.deepEqual((await namespace.get('long'))?.metadata.finalizers, FINALIZERS);
    return sidecar;
  }

  function assertNothingOpen(): void {
    assert.deepEqual([s3.store.objects.size, s3.store.uploads.size], [0, 0]);
  }

  it('by cancel: drops the upload, the finalizer and the Lease within seconds', async () => {
    await using _sidecar = await uploadSomeParts();
    await namespace.edit('long', { cancel: true });
    const status = await namespace.finished('long');
    assert.deepEqual([status.phase, status.disks?.[0]?.upload], ['Cancelled', undefined]);
    assertNothingOpen();
    await until('the Lease is gone', async () => (await namespace.leases()).length === 0);
    const object = await namespace.get('long');
    assert.deepEqual([object?.metadata.finalizers, object?.status?.observedGeneration], [undefined, 2]);
    await until('the event', async () => (await namespace.events('long')).includes('Cancelled'));
  });

  it('by cancel, while it waits for its turn', async () => {
    await using sink = await startStallingSink();
    await using _sidecar = await namespace.start({ volumes, flags: ['--max-concurrent-exports', '1'] });
    await namespace.apply(diskExport('first', { http: { url: sink.url } }));
    await sink.begun(1);
    await namespace.apply(diskExport('second', { http: { url: sink.url } }));
    await namespace.edit('second', { cancel: true });
    assert.equal((await namespace.finished('second')).phase, 'Cancelled');
    await namespace.until('first', (there) => there?.status?.phase === 'Streaming');
  });

  it('by its deadline', async () => {
    await using _sidecar = await uploadSomeParts(toS3('long', { activeDeadlineSeconds: 3 }));
    const status = await namespace.finished('long');
    assert.deepEqual([status.phase, status.disks?.[0]?.reason], ['Failed', 'DeadlineExceeded']);
    assertNothingOpen();
    await until('the finalizer is gone', async () => (await namespace.get('long'))?.metadata.finalizers === undefined);
  });

  it('by deletion: the upload is dropped, and the object is removed within seconds', async () => {
    await using _sidecar = await uploadSomeParts();
    const startMs = performance.now();
    await namespace.remove('long');
    await namespace.until('long', (there) => there === undefined);
    assert.ok(performance.now() - startMs < 5000, `${performance.now() - startMs}`);
    assertNothingOpen();
    await until('the Lease is gone', async () => (await namespace.leases()).length === 0);
  });

  it('by deletion in the foreground, which removes owned objects first', async () => {
    await using _sidecar = await uploadSomeParts();
    await namespace.request('diskexports/long', { method: 'DELETE', body: { propagationPolicy: 'Foreground' } });
    await namespace.until('long', (there) => there === undefined);
    assertNothingOpen();
  });

  it('by deletion, when no upload is open: the object is removed at once, and the transfer ends', async () => {
    await using sink = await startStallingSink();
    await using _sidecar = await namespace.start({ volumes });
    await namespace.apply(diskExport('http', { http: { url: `${sink.url}/http` } }));
    await sink.begun(1);
    await namespace.remove('http');
    await namespace.until('http', (there) => there === undefined);
    await until('the Lease is gone', async () => (await namespace.leases()).length === 0);
    sink.goOn();
    await sleep(300);
    assert.equal(sink.complete.size, 0);
  });

  it('by deletion, and a new export of the same name is run', async () => {
    await using sink = await startHttpSink();
    await using _sidecar = await uploadSomeParts();
    await namespace.remove('long');
    await namespace.until('long', (there) => there === undefined);
    await namespace.apply(diskExport('long', { http: { url: `${sink.url}/again` } }));
    assert.equal((await namespace.finished('long')).phase, 'Succeeded');
    assertNothingOpen();
  });

  it('by deletion, also when its destination does not answer', async () => {
    await using _sidecar = await uploadSomeParts();
    s3.quirks.push({ operation: 'AbortMultipartUpload', does: 'hang' }, { operation: 'ListParts', does: 'hang' });
    const startMs = performance.now();
    await namespace.remove('long');
    await namespace.until('long', (there) => there === undefined);
    assert.ok(performance.now() - startMs < 15_000);
  });

  it('by the deletion of its namespace', async () => {
    await using _sidecar = await uploadSomeParts();
    await api.request(`/api/v1/namespaces/${namespace.name}`, { method: 'DELETE' });
    await namespace.until('long', (there) => there === undefined);
    assertNothingOpen();
    const endMs = performance.now() + 30_000;
    while ((await api.request(`/api/v1/namespaces/${namespace.name}`)).status !== 404) {
      assert.ok(performance.now() < endMs, 'the namespace is still there');
      await sleep(100);
    }
  });

  it('by SIGTERM: keeps no finalizer and no Lease, and the next sidecar sends the missing bytes', async () => {
    await using first = await uploadSomeParts();
    const startMs = performance.now();
    assert.equal(await first.stop(), 0);
    assert.ok(performance.now() - startMs < 5000, `${performance.now() - startMs}`);
    const left = await namespace.get('long');
    assert.deepEqual([left?.metadata.finalizers, left?.status?.phase, await namespace.leases()], [undefined, 'Pending', []]);
    assert.ok(left?.status?.disks?.[0]?.upload !== undefined);
    s3.quirks.length = 0;
    const before = s3.count('UploadPart');
    await using _second = await namespace.start({ volumes });
    const status = await namespace.finished('long');
    assert.deepEqual([status.phase, status.attempts, status.startTime], ['Succeeded', 1, left?.status?.startTime], status.message);
    assert.equal(s3.count('UploadPart') - before, 5 - PARTS_BEFORE);
    await until('the finalizer is gone', async () => (await namespace.get('long'))?.metadata.finalizers === undefined);
  });

  it('by SIGTERM within six seconds, while the API server does not answer and an upload is open', async function () {
    if (api.outage === undefined) return this.skip();
    await using first = await uploadSomeParts();
    api.outage.freeze();
    try {
      const startMs = performance.now();
      assert.equal(await first.stop(), 0);
      assert.ok(performance.now() - startMs < 6000, first.output());
    } finally {
      api.outage.thaw();
    }
  });

  it('by success: the export is deleted when its TTL has passed', async () => {
    await using sink = await startHttpSink();
    await using _sidecar = await namespace.start({ volumes });
    await namespace.apply(diskExport('brief', { http: { url: `${sink.url}/brief` } }, { ttlSecondsAfterFinished: 1 }));
    await until('it has arrived', () => sink.complete.has('/brief'));
    await namespace.until('brief', (there) => there === undefined);
  });

  it('by cancel, when the process was killed before it dropped the upload: the next process drops it', async () => {
    s3.quirks.push({ operation: 'AbortMultipartUpload', does: { status: 503, code: 'SlowDown' } });
    await using first = await uploadSomeParts();
    await namespace.edit('long', { cancel: true });
    const status = await namespace.finished('long');
    assert.equal(status.phase, 'Cancelled');
    assert.ok(status.disks?.[0]?.upload !== undefined);
    await first.stop('SIGKILL');
    s3.quirks.length = 0;
    await using _second = await namespace.start({ volumes: [`other=${temp('volume')}`] });
    await until('the upload is dropped', () => s3.store.uploads.size === 0);
    await namespace.until('long', (there) => there?.status?.disks?.[0]?.upload === undefined && there?.metadata.finalizers === undefined);
    assert.equal((await namespace.get('long'))?.status?.phase, 'Cancelled');
  });
});
