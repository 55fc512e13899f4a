/** One owner for each export: sidecars that race, stop, die and lose the API server. */

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { startHttpSink } from '../helpers/http-sink.ts';
import { diskExport, type Manifest } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import type { Sidecar } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { startStallingSink } from '../helpers/stalling-sink.ts';
import { stopProcess } from '../helpers/stop-process.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';

const MIB = 1024 * 1024;
/** Parts of 5 MiB, for an image with 24 MiB of data. */
const PARTS = 5;
const PARTS_BEFORE = 2;
const EXPORTS = 50;
/** The lease duration that the sidecars are started with. */
const LEASE_MS = 4000;
/** Measured from the start of the process. */
const RESTART_MS = 5000;
/** The time that a control plane needs to restart: many lease durations. */
const OUTAGE_MS = 60_000;

describe('sidecars that want the same exports', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let s3: S3Fake;

  before(async function () {
    api = await startApiServer(requireBinaries(this));
    await installCrd(api);
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 32 * MIB, [{ offsetBytes: MIB, lengthBytes: 24 * MIB, content: 'random' }]);
    s3 = await startS3Fake();
  });

  afterEach(() => s3?.[Symbol.asyncDispose]());

  const start = (podName: string): Promise<Sidecar> =>
    namespace.start({ volumes: [`claim=${temp('volume')}`], flags: ['--pod-name', podName] });

  function toS3(name: string): Manifest {
    return diskExport(name, s3InParts(s3.url, '{name}.qcow2'));
  }

  /** Runs the export `long` until some parts have arrived and the next one hangs. */
  async function uploadSomeParts(podName: string): Promise<Sidecar> {
    s3.quirks.push({ operation: 'UploadPart', after: PARTS_BEFORE, times: 1, does: 'hang' });
    const sidecar = await start(podName);
    await namespace.apply(toS3('long'));
    await until('some parts', () => s3.count('UploadPart') > PARTS_BEFORE);
    return sidecar;
  }

  async function assertArrived(): Promise<void> {
    const { body } = s3.store.objects.get('long.qcow2') ?? assert.fail('no object');
    await writeFile(temp('arrived.qcow2'), body);
    await assertImageOf(temp('arrived.qcow2'), temp('volume/disk.img'));
    assert.equal(s3.store.uploads.size, 0, 'nothing is left open');
  }

  it(`run ${EXPORTS} of them, and none twice`, async () => {
    await createDisk(temp('volume/disk.img'), MIB, [{ offsetBytes: 0, lengthBytes: 65_536, content: 'random' }]);
    await using sink = await startHttpSink();
    await using first = await start('first');
    await using second = await start('second');
    const names = Array.from({ length: EXPORTS }, (_, index) => `e${index}`);
    await Promise.all(names.map((name) => namespace.apply(diskExport(name, { http: { url: `${sink.url}/{name}` } }))));
    const statuses = await Promise.all(names.map((name) => namespace.finished(name)));
    assert.ok(statuses.every(({ phase, attempts }) => phase === 'Succeeded' && attempts === 1));
    const requested = sink.requests.map(({ url }) => url?.slice(1));
    assert.deepEqual(requested.sort(), [...names].sort());
    const ran = [first, second].map((sidecar) => sidecar.log().filter(({ msg }) => msg === 'export claimed').length);
    assert.equal((ran[0] ?? 0) + (ran[1] ?? 0), EXPORTS);
    assert.ok(
      ran.every((count) => count > 5),
      `${ran}`,
    );
    await until('no Lease is left', async () => (await namespace.leases()).length === 0);
  });

  it('take over from a killed sidecar when its Lease has expired, and send the missing parts', async () => {
    await using first = await uploadSomeParts('first');
    await first.stop('SIGKILL');
    const before = s3.count('UploadPart');
    await using _second = await start('second');
    await sleep(LEASE_MS / 2);
    assert.equal((await namespace.get('long'))?.status?.executor?.podName, 'first');
    const status = await namespace.finished('long');
    assert.deepEqual([status.phase, status.attempts, status.executor?.podName], ['Succeeded', 1, 'second'], status.message);
    assert.equal(s3.count('UploadPart') - before, PARTS - PARTS_BEFORE);
    assert.equal(s3.count('CreateMultipartUpload'), 1);
    await assertArrived();
  });

  describe('with Leases that hold for a minute', () => {
    const startLong = (podName: string): Promise<Sidecar> =>
      namespace.start({ volumes: [`claim=${temp('volume')}`], flags: ['--pod-name', podName, '--lease-duration-seconds', '60'] });

    /** Kills a sidecar while it uploads. */
    async function loseOne(): Promise<void> {
      s3.quirks.push({ operation: 'UploadPart', after: PARTS_BEFORE, times: 1, does: 'hang' });
      const sidecar = await startLong('first');
      await namespace.apply(toS3('long'));
      await until('some parts', () => s3.count('UploadPart') > PARTS_BEFORE);
      await sidecar.stop('SIGKILL');
    }

    it('continue at once after kill -9, because the restarted process proves that its predecessor has ended', async () => {
      await loseOne();
      const before = s3.count('UploadPart');
      const startMs = performance.now();
      await using _again = await startLong('first');
      await until('the next part', () => s3.count('UploadPart') > before);
      const tookMs = performance.now() - startMs;
      assert.ok(tookMs < RESTART_MS, `${tookMs} ms`);
      const status = await namespace.finished('long');
      assert.deepEqual([status.phase, status.attempts], ['Succeeded', 1], status.message);
      assert.equal(s3.count('UploadPart') - before, PARTS - PARTS_BEFORE);
      await assertArrived();
    });

    it('release an export at once that was deleted after its process was killed', async () => {
      await loseOne();
      await namespace.remove('long');
      const startMs = performance.now();
      await using _again = await startLong('first');
      await namespace.until('long', (there) => there === undefined);
      const tookMs = performance.now() - startMs;
      assert.ok(tookMs < RESTART_MS, `${tookMs} ms`);
      assert.equal(s3.store.uploads.size, 0, 'the upload is dropped');
    });

    it('do not take over from a running process of the same pod', async () => {
      s3.quirks.push({ operation: 'UploadPart', after: PARTS_BEFORE, times: 1, does: 'hang' });
      await using first = await startLong('first');
      await namespace.apply(toS3('long'));
      await until('some parts', () => s3.count('UploadPart') > PARTS_BEFORE);
      await stopProcess(first.process.pid as number);
      const before = s3.requests.length;
      await using second = await startLong('first');
      await sleep(RESTART_MS);
      assert.equal(s3.requests.length, before);
      assert.ok(!second.log().some(({ msg }) => msg === 'export claimed'));
      first.process.kill('SIGCONT');
      await first.stop();
    });
  });

  it('take over from a stopped process, which detects that when it continues, and changes nothing', async () => {
    await using first = await uploadSomeParts('first');
    await stopProcess(first.process.pid as number);
    await using _second = await start('second');
    const status = await namespace.finished('long');
    assert.deepEqual([status.phase, status.executor?.podName], ['Succeeded', 'second'], status.message);
    const counts = () =>
      ['CompleteMultipartUpload', 'AbortMultipartUpload', 'CreateMultipartUpload'].map((each) => s3.count(each as 'UploadPart'));
    const before = counts();
    const { resourceVersion } = (await namespace.get('long'))?.metadata ?? assert.fail();
    first.process.kill('SIGCONT');
    await until('it has detected the loss', () => first.log().some(({ msg }) => msg === 'export handed over to another process'));
    await sleep(500);
    assert.deepEqual(counts(), before);
    assert.equal((await namespace.get('long'))?.metadata.resourceVersion, resourceVersion);
    await assertArrived();
  });

  it('leave an export to its owner when that was stopped for less than the lease duration', async () => {
    await using first = await uploadSomeParts('first');
    await using _second = await start('second');
    await stopProcess(first.process.pid as number);
    await sleep(LEASE_MS / 2);
    first.process.kill('SIGCONT');
    s3.quirks.length = 0;
    await sleep(LEASE_MS);
    assert.equal((await namespace.get('long'))?.status?.executor?.podName, 'first');
  });

  it('commit nothing while the API server does not answer for a minute, and keep the parts sent meanwhile', async function () {
    this.timeout(OUTAGE_MS + 90_000);
    if (api.outage === undefined) return this.skip();
    await using sink = await startStallingSink();
    await using first = await start('first');
    await namespace.apply(diskExport('long', { http: { url: `${sink.url}/long` } }));
    await sink.begun(1);
    await until('the status says that it runs', async () => (await namespace.get('long'))?.status?.phase === 'Streaming');
    await api.outage.kill();
    await sleep(OUTAGE_MS / 2);
    sink.goOn();
    // All but the last bytes: another process may have its Lease by now, and only the API server knows that.
    await sleep(OUTAGE_MS / 2);
    assert.equal(sink.complete.size, 0);
    await api.outage.restart();
    const status = await namespace.finished('long');
    assert.deepEqual([status.phase, status.attempts, sink.requests.length], ['Succeeded', 1, 1], status.message);
    assert.equal(sink.complete.size, 1);
    assert.equal(await first.stop(), 0);
  });
});
