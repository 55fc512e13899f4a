/** `disklift sidecar` on a real API server: it claims, exports, reports and cleans up. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { startReceiver } from '../helpers/receiver-process.ts';
import { BUCKET, startS3Fake } from '../helpers/s3-fake.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { startStallingSink } from '../helpers/stalling-sink.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const MIB = 1024 * 1024;

describe('disklift sidecar in a cluster', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let volumes: string[];

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
  });

  beforeEach(async () => {
    namespace = await createNamespace(api);
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 5 * MIB, content: 'random' }]);
    volumes = [`claim=${temp('volume')}`];
  });

  async function assertArrived(sink: HttpSink, place: string): Promise<void> {
    await writeFile(temp('arrived.qcow2'), sink.complete.get(place) ?? assert.fail(`nothing at ${place}`));
    await assertImageOf(temp('arrived.qcow2'), temp('volume/disk.img'));
  }

  /** The conditions in the form that kubectl wait uses. */
  function conditions(status: DiskExportStatus): Record<string, string> {
    return Object.fromEntries((status.conditions ?? []).map(({ type, status, reason }) => [type, `${status} ${reason}`]));
  }

  it('runs exports created before and after its start, reports each, and leaves neither a Lease nor a finalizer', async () => {
    await using sink = await startHttpSink();
    await namespace.apply(diskExport('before', { http: { url: `${sink.url}/{name}` } }));
    await using sidecar = await namespace.start({
      volumes,
      flags: ['--pod-name', 'pod-1', '--pod-uid', 'uid-1', '--node-name', 'node-1'],
    });
    await namespace.apply(diskExport('after', { http: { url: `${sink.url}/{name}` } }));
    for (const name of ['before', 'after']) {
      const status = await namespace.finished(name);
      assert.deepEqual([status.phase, status.progress?.percent, status.attempts], ['Succeeded', 100, 1], status.message);
      assert.deepEqual(status.executor, { podName: 'pod-1', podUID: 'uid-1', nodeName: 'node-1' });
      assert.deepEqual(conditions(status), {
        Succeeded: 'True Completed',
        Finished: 'True Completed',
        Progressing: 'False Completed',
        SourceReady: 'True Completed',
      });
      assert.ok(
        status.conditions?.every(({ observedGeneration, lastTransitionTime = '' }) => observedGeneration === 1 && lastTransitionTime > '2'),
      );
      assert.equal(status.observedGeneration, 1);
      await assertArrived(sink, `/${name}`);
      await until('the last event', async () => (await namespace.events(name)).includes('Succeeded'));
      assert.deepEqual((await namespace.events(name)).sort(), ['Claimed', 'Started', 'Succeeded']);
    }
    assert.equal((await sidecar.get('/readyz')).status, 200);
    const lastSuccess = (await sidecar.metrics()).get('disklift_watch_last_success_timestamp_seconds') ?? 0;
    assert.ok(Math.abs(Date.now() / 1000 - lastSuccess) < 60);
    assert.equal(await sidecar.stop(), 0);
    assert.deepEqual(await namespace.leases(), []);
    assert.equal((await namespace.get('after'))?.metadata.finalizers, undefined);
    assert.equal(sink.requests.length, 2);
  });

  it('brings several disks to S3 with the keys of a Secret, and to a receiver', async () => {
    await createDisk(temp('volume/data.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    await using s3 = await startS3Fake();
    await using receiver = await startReceiver(['--output', temp('received.qcow2')]);
    await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    await using _sidecar = await namespace.start({ volumes });
    const options = { forcePathStyle: true, credentialsSecretRef: { name: 'keys' } };
    const persistentVolumeClaim = { claimName: 'claim' };
    const both = { persistentVolumeClaim, disks: [{ path: 'disk.img' }, { path: 'data.img' }] };
    const s3Destination = { endpoint: s3.url, bucket: BUCKET, key: '{namespace}/{disk}', ...options };
    await namespace.apply(diskExport('to-s3', { s3: s3Destination }, { source: both }));
    const source = { persistentVolumeClaim, disks: [{ path: 'disk.img' }] };
    await namespace.apply(diskExport('to-tcp', { tcp: { host: '127.0.0.1', port: receiver.port, protocol: 'Acknowledged' } }, { source }));
    for (const name of ['to-s3', 'to-tcp']) {
      const status = await namespace.finished(name);
      assert.equal(status.phase, 'Succeeded', status.message);
    }
    assert.deepEqual([...s3.store.objects.keys()].sort(), [`${namespace.name}/data`, `${namespace.name}/disk`]);
    await receiver.ended;
    await assertImageOf(temp('received.qcow2'), temp('volume/disk.img'));
  });

  it('names the Secret that is missing', async () => {
    await using sink = await startHttpSink();
    await using _sidecar = await namespace.start({ volumes });
    await namespace.apply(diskExport('e', { http: { url: sink.url, headersSecretRef: { name: 'none' } } }, { backoffLimit: 0 }));
    const status = await namespace.finished('e');
    assert.deepEqual([status.phase, conditions(status).Succeeded], ['Failed', 'False CredentialsInvalid']);
    assert.match(status.message ?? '', /Secret test-\S+\/none cannot be used: it does not exist, has no label/);
  });

  it('names the ConfigMap that is missing, without blaming the credentials', async () => {
    await using sink = await startHttpSink();
    await using _sidecar = await namespace.start({ volumes });
    const http = { url: sink.url.replace('http:', 'https:'), tls: { caBundleRef: { configMap: 'none', key: 'ca.crt' } } };
    await namespace.apply(diskExport('e', { http }, { backoffLimit: 0 }));
    const status = await namespace.finished('e');
    assert.deepEqual([status.phase, conditions(status).Succeeded], ['Failed', 'False ReferenceInvalid']);
    assert.match(status.message ?? '', /ConfigMap test-\S+\/none does not exist/);
    assert.match(status.duration ?? '', /^\d+s$/);
  });

  it('ignores exports of other volumes, and reports exports that wait for their turn', async () => {
    await using sink = await startStallingSink();
    await using _sidecar = await namespace.start({ volumes, flags: ['--max-concurrent-exports', '1'] });
    const source = { persistentVolumeClaim: { claimName: 'other' } };
    await namespace.apply(diskExport('other', { http: { url: sink.url } }, { source }));
    await namespace.apply(diskExport('first', { http: { url: sink.url } }));
    await sink.begun(1);
    await namespace.apply(diskExport('second', { http: { url: sink.url } }));
    const second = await namespace.until('second', (there) => there?.status?.message?.startsWith('waits') ?? false);
    assert.match(second?.status?.message ?? '', /waits for a slot/);
    const other = (await namespace.get('other'))?.status;
    assert.deepEqual([other?.phase, other?.conditions?.[0]?.reason, other?.observedGeneration], ['Pending', 'Unclaimed', undefined]);
    sink.goOn();
    assert.equal((await namespace.finished('second')).phase, 'Succeeded');
  });

  it('waits while a pod may write to the claim, and continues when the pod has ended', async () => {
    await using sink = await startHttpSink();
    const volume = { name: 'root', persistentVolumeClaim: { claimName: 'claim' } };
    const containers = [{ name: 'compute', image: 'vm', volumeMounts: [{ name: 'root', mountPath: '/disks' }] }];
    const spec = { containers, volumes: [volume], automountServiceAccountToken: false };
    const pod = await namespace.request('pods', { method: 'POST', body: { metadata: { name: 'virt-launcher' }, spec } });
    assert.equal(pod.status, 201, JSON.stringify(pod.body));
    await using _sidecar = await namespace.start({ volumes });
    await namespace.apply(diskExport('waits', { http: { url: `${sink.url}/waits` } }));
    const failing = { persistentVolumeClaim: { claimName: 'claim' }, inUse: 'Fail' };
    await namespace.apply(diskExport('fails', { http: { url: `${sink.url}/fails` } }, { source: failing }));
    const failed = await namespace.finished('fails');
    assert.deepEqual([failed.phase, conditions(failed).SourceReady], ['Failed', 'False SourceInUse']);
    const object = await namespace.until('waits', (there) => there?.status?.disks?.[0]?.reason === 'SourceInUse');
    assert.match(object?.status?.message ?? '', /in use by the container compute of the pod virt-launcher/);
    assert.deepEqual([object?.status?.phase, object?.status?.attempts], ['Pending', 0]);
    await namespace.request('pods/virt-launcher?gracePeriodSeconds=0', { method: 'DELETE' });
    const status = await namespace.finished('waits');
    assert.deepEqual([status.phase, status.attempts], ['Succeeded', 1], status.message);
  });

  it('reports an edit that has no effect, during an export and after it', async () => {
    await using sink = await startStallingSink();
    await using _sidecar = await namespace.start({ volumes });
    await namespace.apply(diskExport('edited', { http: { url: `${sink.url}/edited` } }));
    await sink.begun(1);
    assert.equal((await namespace.edit('edited', { ttlSecondsAfterFinished: 1000 })).status, 200);
    await namespace.until('edited', (there) => there?.status?.observedGeneration === 2);
    sink.goOn();
    await namespace.finished('edited');
    assert.equal((await namespace.edit('edited', { ttlSecondsAfterFinished: 2000 })).status, 200);
    const object = await namespace.until('edited', (there) => there?.status?.observedGeneration === 3);
    assert.ok(object?.status?.conditions?.every(({ observedGeneration }) => observedGeneration === 3));
    assert.equal(object?.status?.phase, 'Succeeded');
  });

  describe('--once', () => {
    it('runs one export, also one that is created later, and exits with its result', async () => {
      await using sink = await startHttpSink();
      await using sidecar = await namespace.start({ volumes, flags: ['--once', 'good'] });
      await namespace.apply(diskExport('other', { http: { url: `${sink.url}/other` } }));
      await namespace.apply(diskExport('good', { http: { url: `${sink.url}/good` } }));
      assert.equal(await sidecar.ended, 0);
      await assertArrived(sink, '/good');
      assert.deepEqual([(await namespace.get('good'))?.status?.phase, await namespace.leases()], ['Succeeded', []]);
      assert.equal(sink.requests.length, 1);
      await using again = await namespace.start({ volumes, flags: ['--once', 'good'] });
      assert.equal(await again.ended, 0);
      assert.equal(sink.requests.length, 1);
    });

    it('exits with 3 and a line that names the reason when the export has failed, and by the signal that stops it', async () => {
      await using sink = await startHttpSink({ onExpect: (_request, response) => void response.writeHead(400).end() });
      await namespace.apply(diskExport('bad', { http: { url: `${sink.url}/bad` } }));
      await using sidecar = await namespace.start({ volumes, flags: ['--once', 'bad'] });
      assert.equal(await sidecar.ended, 3);
      assert.match(sidecar.output(), /disklift: test-\S+\/bad: DestinationRejected: [^\n]+\n$/);
      await using elsewhere = await namespace.start({ volumes: [`other=${temp('volume')}`], flags: ['--once', 'bad2'] });
      await namespace.apply(diskExport('bad2', { http: { url: `${sink.url}/bad` } }));
      assert.equal(await elsewhere.ended, 2);
      assert.match(elsewhere.output(), /bad2: no process serves the claim claim; [^\n]+\n$/);
      await using waiting = await namespace.start({ volumes, flags: ['--once', 'none'] });
      assert.equal(await waiting.stop(), 'SIGTERM');
    });
  });
});
