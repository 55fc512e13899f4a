/** `disklift sidecar --once` as the controller starts it for one export, against an API server and S3. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { BUCKET, type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS } from '../helpers/versitygw.ts';
import type { ApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const MIB = 1024 * 1024;
const MERGE = { method: 'PATCH', contentType: 'application/merge-patch+json' } as const;
const MANIFEST = 'apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: { name: fedora }\n';
const VIRTUAL_MACHINE = { source: { virtualMachine: { name: 'fedora' } } };
const LEFT_OUT = { type: 'VolumesLeftOut', status: 'True', reason: 'NotExportable', message: 'cd: is a containerDisk' } as const;

/** As the controller writes it before it makes a Job. */
const BY_CONTROLLER: DiskExportStatus = {
  observedGeneration: 1,
  phase: 'Pending',
  message: 'the clones are being made',
  startTime: '2026-11-30T01:42:00Z',
  consistency: 'Application',
  snapshotTime: '2026-11-30T01:42:01Z',
  conditions: [
    { type: 'Succeeded', status: 'Unknown', reason: 'Snapshotting', message: '', lastTransitionTime: '2026-11-30T01:42:00Z' },
    { ...LEFT_OUT, lastTransitionTime: '2026-11-30T01:42:00Z' },
  ],
};

describe('a worker of the controller in a cluster', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let volumes: string[];

  before(async function () {
    requireVersitygw(this);
    api = await useApiServer(this);
    await installCrd(api);
  });

  beforeEach(async () => {
    namespace = await createNamespace(api);
    for (const name of ['0', '1', 'vm']) await mkdir(temp(name));
    await createDisk(temp('0/disk.img'), 32 * MIB, [{ offsetBytes: MIB, lengthBytes: 24 * MIB, content: 'random' }]);
    await createDisk(temp('1/disk.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 65_536, content: 'random' }]);
    volumes = [`root=${temp('0')}`, `data=${temp('1')}`];
    // As the kubelet mounts a ConfigMap.
    await mkdir(temp('vm/..2026'));
    await writeFile(temp('vm/..2026/vm.yaml'), MANIFEST);
    await symlink('..2026', temp('vm/..data'));
    await symlink('..data/vm.yaml', temp('vm/vm.yaml'));
  });

  function startWorker(role: string, name: string, more: Record<string, string> = {}) {
    const env = { DISKLIFT_WORKER: role, DISKLIFT_POD_NAME: 'worker-1', ...more };
    return namespace.start({ volumes: role === 'Cleanup' ? [] : volumes, flags: ['--once', name], env });
  }

  async function setStatus(name: string, status: object): Promise<void> {
    const answer = await namespace.request(`diskexports/${name}/status`, { ...MERGE, body: { status } });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
  }

  it('sends the clones of two volumes of a virtual machine, and vm.yaml beside them', async () => {
    await mkdir(temp('s3'));
    await using s3 = await startVersitygw(temp('s3'), BUCKET);
    await namespace.secret('keys', {
      AWS_ACCESS_KEY_ID: VERSITYGW_KEYS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: VERSITYGW_KEYS.secretAccessKey,
    });
    const destination = s3InParts(s3.url, '{namespace}/{vm}/{disk}.qcow2');
    await namespace.apply(diskExport('machine', destination, VIRTUAL_MACHINE));
    await setStatus('machine', BY_CONTROLLER);
    await using worker = await startWorker('PointInTime', 'machine', { DISKLIFT_MANIFEST_FILE: temp('vm/vm.yaml') });
    assert.equal(await worker.ended, 0, worker.output());

    const status = await namespace.finished('machine');
    assert.deepEqual([status.phase, status.progress?.percent, status.attempts], ['Succeeded', 100, 3], status.message);
    assert.match(status.message ?? '', /^2 disks and vm\.yaml have arrived, /);
    assert.partialDeepStrictEqual(status, {
      consistency: 'Application',
      snapshotTime: '2026-11-30T01:42:01Z',
      startTime: '2026-11-30T01:42:00Z',
      executor: { podName: 'worker-1' },
    });
    assert.partialDeepStrictEqual(status.conditions?.find(({ type }) => type === 'VolumesLeftOut') ?? {}, LEFT_OUT);
    const place = (file: string) => `${namespace.name}/fedora/${file}`;
    assert.deepEqual(
      status.disks?.map(({ path, phase, location }) => [path, phase, location]),
      [
        ['root', 'Succeeded', `s3://${BUCKET}/${place('root.qcow2')}`],
        ['data', 'Succeeded', `s3://${BUCKET}/${place('data.qcow2')}`],
        ['vm.yaml', 'Succeeded', `s3://${BUCKET}/${place('vm.yaml')}`],
      ],
    );
    await assertImageOf(s3.objectPath(BUCKET, place('root.qcow2')), temp('0/disk.img'));
    await assertImageOf(s3.objectPath(BUCKET, place('data.qcow2')), temp('1/disk.img'));
    assert.equal(await readFile(s3.objectPath(BUCKET, place('vm.yaml')), 'utf8'), MANIFEST);
    assert.equal((await namespace.get('machine'))?.metadata.finalizers, undefined);
  });

  it('waits while a pod writes to the claim of a volume, where the volumes are the claims', async () => {
    await using s3 = await startS3Fake();
    await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    const containers = [{ name: 'compute', image: 'vm', volumeMounts: [{ name: 'root', mountPath: '/disks' }] }];
    const spec = {
      containers,
      volumes: [{ name: 'root', persistentVolumeClaim: { claimName: 'fedora-root' } }],
      automountServiceAccountToken: false,
    };
    await namespace.request('pods', { method: 'POST', body: { metadata: { name: 'virt-launcher' }, spec } });
    await namespace.apply(diskExport('live', s3InParts(s3.url, '{disk}'), VIRTUAL_MACHINE));
    await using worker = await startWorker('Live', 'live', { DISKLIFT_CLAIM_OF: 'root=fedora-root,data=fedora-data' });
    const waiting = await namespace.until('live', (there) => there?.status?.message?.startsWith('root: waits until') ?? false);
    assert.match(waiting?.status?.message ?? '', /the claim fedora-root is in use by .*virt-launcher/);
    await namespace.request('pods/virt-launcher?gracePeriodSeconds=0', { method: 'DELETE' });
    assert.equal(await worker.ended, 0, worker.output());
    assert.deepEqual([...s3.store.objects.keys()].sort(), ['data', 'root']);
  });

  it('ends with 2 for an export that it cannot serve, as a sidecar does for an export of the controller', async () => {
    await namespace.apply(
      diskExport('other', s3InParts('http://s3.example', '{disk}'), { source: { volumeSnapshot: { name: 'monday' } } }),
    );
    await using worker = await startWorker('PointInTime', 'other');
    assert.equal(await worker.ended, 2);
    assert.match(worker.output(), /this worker has no clone of the VolumeSnapshot monday/);
    await using sidecar = await namespace.start({ volumes, flags: ['--once', 'other'] });
    assert.equal(await sidecar.ended, 2);
    assert.match(sidecar.output(), /the VolumeSnapshot monday needs `disklift controller`/);
  });

  describe('that only cleans up', () => {
    let s3: S3Fake;

    beforeEach(async () => {
      s3 = await startS3Fake();
      await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    });

    afterEach(() => s3[Symbol.asyncDispose]());

    /** A worker is killed after some parts, so that the upload, the finalizer and the Lease stay. */
    async function leaveUpload(): Promise<void> {
      s3.quirks.push({ operation: 'UploadPart', after: 2, does: 'hang' });
      await namespace.apply(diskExport('left', s3InParts(s3.url, '{vm}/{disk}'), VIRTUAL_MACHINE));
      const worker = await startWorker('PointInTime', 'left');
      await until('some parts', () => s3.count('UploadPart') > 2);
      await worker.stop('SIGKILL');
      assert.deepEqual([s3.store.uploads.size, (await namespace.get('left'))?.metadata.finalizers], [1, ['disklift.dev/cleanup']]);
    }

    async function cleanUp(): Promise<void> {
      await using worker = await startWorker('Cleanup', 'left');
      assert.equal(await worker.ended, 0, worker.output());
      assert.deepEqual([s3.store.uploads.size, s3.store.objects.size], [0, 0]);
    }

    it('aborts the upload of an export that the controller has ended, and lets it be deleted', async () => {
      await leaveUpload();
      await setStatus('left', { phase: 'Failed', completionTime: '2026-11-30T02:00:00Z' });
      await cleanUp();
      const { metadata, status } = (await namespace.get('left')) ?? assert.fail();
      assert.deepEqual([metadata.finalizers, status?.phase, status?.disks?.[0]?.upload], [undefined, 'Failed', undefined]);
      assert.deepEqual(await namespace.leases(), []);
      await cleanUp();
    });

    it('aborts the upload of an export that is being deleted, which is then gone, and has nothing to do after that', async () => {
      await leaveUpload();
      await namespace.remove('left');
      await cleanUp();
      await namespace.until('left', (there) => there === undefined);
      await cleanUp();
    });

    it('fails while the destination does not answer, and the next one cleans up', async () => {
      await leaveUpload();
      await setStatus('left', { phase: 'Failed', completionTime: '2026-11-30T02:00:00Z' });
      s3.quirks.push({ operation: 'AbortMultipartUpload', does: { status: 403, code: 'AccessDenied' } });
      await using worker = await startWorker('Cleanup', 'left');
      assert.equal(await worker.ended, 1, worker.output());
      assert.notEqual((await namespace.get('left'))?.status?.disks?.[0]?.upload, undefined);
      s3.quirks.length = 0;
      await cleanUp();
    });
  });
});
