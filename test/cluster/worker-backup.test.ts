/**
 * A worker that exports a VirtualMachineBackup: KubeVirt's own definitions on a real API server, its own export server
 * in front of QEMU, and a real S3 server. The test writes the status as virt-controller 1.8.0 does.
 */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createImage } from '../helpers/create-image.ts';
import { type ExportServer, requireExportServer, startExportServer } from '../helpers/kubevirt-backup/export-server.ts';
import { diskExport } from '../helpers/manifest.ts';
import { runCommand } from '../helpers/run-command.ts';
import { BUCKET } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { type StorageDaemon, startStorageDaemon } from '../helpers/storage-daemon.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS } from '../helpers/versitygw.ts';
import type { ApiServer } from './api-server.ts';
import { startApiServer } from './api-server.ts';
import { installBackupDefinitions } from './backup-definitions.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';

const BACKUPS = '/apis/backup.kubevirt.io/v1alpha1';
const VMS = '/apis/kubevirt.io/v1';
const VOLUME = 'rootdisk';
const GRANULARITY = 65_536;
const KEY = '{name}/{disk}.qcow2';

async function succeeds(command: string, ...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await runCommand(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
}

const condition = (type: string, status: string, reason: string) => ({
  type,
  status,
  reason,
  lastProbeTime: null,
  lastTransitionTime: '2026-11-30T01:42:00Z',
});

describe('a worker that exports a VirtualMachineBackup', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let program: string;

  before(async function () {
    requireVersitygw(this);
    program = requireExportServer(this);
    // Other suites have definitions of VMs that accept every object.
    api = await startApiServer(requireBinaries(this));
    await installCrd(api);
    await installBackupDefinitions(api, path.dirname(program));
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    await namespace.secret('token', { token: 'correct-token' });
    await namespace.secret('keys', {
      AWS_ACCESS_KEY_ID: VERSITYGW_KEYS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: VERSITYGW_KEYS.secretAccessKey,
    });
    const spec = { runStrategy: 'Always', template: { spec: { domain: { devices: {} } } } };
    await send('POST', `${VMS}/namespaces/${namespace.name}/virtualmachines`, {
      apiVersion: 'kubevirt.io/v1',
      kind: 'VirtualMachine',
      metadata: { name: 'db01' },
      spec,
    });
    const source = { apiGroup: 'kubevirt.io', kind: 'VirtualMachine', name: 'db01' };
    await send('POST', placeOf('virtualmachinebackuptrackers'), {
      apiVersion: 'backup.kubevirt.io/v1alpha1',
      kind: 'VirtualMachineBackupTracker',
      metadata: { name: 'nightly' },
      spec: { source },
    });
  });

  const placeOf = (plural: string, name?: string) =>
    `${BACKUPS}/namespaces/${namespace.name}/${plural}${name === undefined ? '' : `/${name}`}`;

  async function send(method: 'POST' | 'PATCH' | 'DELETE', place: string, body?: object) {
    const contentType = method === 'PATCH' ? 'application/merge-patch+json' : undefined;
    const answer = await api.request(place, { method, ...(body && { body }), ...(contentType && { contentType }) });
    assert.ok(answer.status < 300, `${method} ${place}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  const createBackup = (name: string) =>
    send('POST', placeOf('virtualmachinebackups'), {
      apiVersion: 'backup.kubevirt.io/v1alpha1',
      kind: 'VirtualMachineBackup',
      metadata: { name },
      spec: {
        source: { apiGroup: 'backup.kubevirt.io', kind: 'VirtualMachineBackupTracker', name: 'nightly' },
        mode: 'Pull',
        pvcName: 'scratch',
        tokenSecretRef: 'token',
      },
    });

  const setStatus = (name: string, status: object) => send('PATCH', `${placeOf('virtualmachinebackups', name)}/status`, { status });

  const readyStatus = (server: ExportServer, type: string, checkpointName: string) => ({
    type,
    checkpointName,
    conditions: ['Progressing', 'ExportInitiated', 'ExportReady']
      .map((each) => condition(each, 'True', 'Backup export is ready to pull'))
      .concat(condition('Done', 'False', 'Backup export is ready to pull')),
    endpointCert: server.ca,
    includedVolumes: [
      {
        volumeName: VOLUME,
        diskTarget: 'vda',
        dataEndpoint: server.url(VOLUME, 'data').href,
        mapEndpoint: server.url(VOLUME, 'map').href,
      },
    ],
  });

  const startWorker = (name: string) =>
    namespace.start({ volumes: [], flags: ['--once', name], env: { DISKLIFT_WORKER: 'PointInTime', DISKLIFT_POD_NAME: 'worker-1' } });

  async function startDisk(): Promise<StorageDaemon> {
    await createImage(temp('disk'), { format: 'qcow2', size: '8M' });
    const daemon = await startStorageDaemon({ path: temp('disk'), format: 'qcow2' }, path.dirname(temp('disk')));
    await daemon.guest(['write -q -P 1 0 3M']);
    return daemon;
  }

  const serve = (uri: string, checkpoint?: string) =>
    startExportServer({
      directory: path.dirname(temp('x')),
      program,
      volumes: [VOLUME],
      type: checkpoint === undefined ? 'Full' : 'Incremental',
      checkpoint,
      exportOf: (volume) => (volume === VOLUME ? uri : undefined),
    });

  const ofBackup = (name: string, url: string, spec: object = {}) =>
    diskExport(name, s3InParts(url, KEY), { source: { virtualMachineBackup: { name } }, ...spec });

  it('sends each volume, with no volume of its own', async () => {
    await mkdir(temp('s3'));
    await using s3 = await startVersitygw(temp('s3'), BUCKET);
    await using daemon = await startDisk();
    await daemon.exported(undefined, async (uri) => {
      await using server = await serve(uri);
      await createBackup('monday');
      await setStatus('monday', readyStatus(server, 'Full', 'monday-2026'));
      await namespace.apply(ofBackup('monday', s3.url));
      await using worker = await startWorker('monday');
      assert.equal(await worker.ended, 0, worker.output());
      const status = await namespace.finished('monday');
      assert.equal(status.phase, 'Succeeded', status.message);
      assert.deepEqual(
        status.disks?.map(({ path: disk }) => disk),
        [VOLUME],
      );
      assert.doesNotMatch(worker.output(), /correct-token/);
      await succeeds('qemu-img', 'compare', '-q', '-F', 'raw', s3.objectPath(BUCKET, 'monday/rootdisk.qcow2'), uri);
    });
  });

  const INCREMENTAL = { receipt: true, incremental: { tracker: 'trackers/{namespace}/{disk}.json' } };

  /** Exports a backup of the disk as it is now, as KubeVirt would: the tracker moves on when the backup is deleted. */
  async function exportBackup(name: string, disk: { daemon: StorageDaemon; url: string; isFull?: boolean; spec?: object }) {
    const { daemon, url, isFull = false, spec = INCREMENTAL } = disk;
    const checkpoint = `${name}-2026`;
    const bitmap = isFull ? undefined : checkpoint;
    if (isFull) await daemon.addBitmap('changes', GRANULARITY);
    else await daemon.freezeBitmap('changes', checkpoint, GRANULARITY);
    return daemon.exported(bitmap, async (uri) => {
      await using server = await serve(uri, bitmap);
      await createBackup(name);
      await setStatus(name, readyStatus(server, isFull ? 'Full' : 'Incremental', checkpoint));
      await namespace.apply(ofBackup(name, url, spec));
      await using worker = await startWorker(name);
      await worker.ended;
      const status = await namespace.finished(name);
      await succeeds('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, temp(`${name}.raw`));
      await send('DELETE', placeOf('virtualmachinebackups', name));
      await moveTracker(checkpoint);
      return status;
    });
  }

  const moveTracker = (name: string) =>
    send('PATCH', `${placeOf('virtualmachinebackuptrackers', 'nightly')}/status`, { status: { latestCheckpoint: { name } } });

  it('makes images of a chain, each of which is the disk at the time of its backup', async () => {
    await mkdir(temp('s3'));
    await using s3 = await startVersitygw(temp('s3'), BUCKET);
    await using daemon = await startDisk();
    const disk = { daemon, url: s3.url };
    const names = ['monday', 'tuesday', 'wednesday'];
    const [full, ...others] = [
      await exportBackup('monday', { ...disk, isFull: true }),
      await daemon.guest(['write -q -P 2 1M 4k', 'write -q -z 2M 64k']).then(() => exportBackup('tuesday', disk)),
      await daemon.guest(['write -q -P 3 5M 128k', 'discard -q 0 64k']).then(() => exportBackup('wednesday', disk)),
    ];
    assert.equal(full?.phase, 'Succeeded', full?.message);
    assert.partialDeepStrictEqual(full?.disks?.[0] ?? {}, { type: 'Full', typeReason: 'FirstImage' });
    for (const status of others) {
      assert.equal(status.phase, 'Succeeded', status.message);
      assert.partialDeepStrictEqual(status.disks?.[0] ?? {}, { type: 'Incremental', typeReason: 'VirtualMachineBackup' });
    }
    assert.deepEqual(
      others.map(({ disks }) => disks?.[0]?.changedBytes),
      [2 * GRANULARITY, 3 * GRANULARITY],
    );
    for (const name of names)
      await succeeds('qemu-img', 'compare', '-q', '-F', 'raw', s3.objectPath(BUCKET, `${name}/rootdisk.qcow2`), temp(`${name}.raw`));
  });

  it('makes a full image, or fails, where the changes count from a checkpoint whose image is not there', async () => {
    await mkdir(temp('s3'));
    await using s3 = await startVersitygw(temp('s3'), BUCKET);
    await using daemon = await startDisk();
    const disk = { daemon, url: s3.url };
    assert.equal((await exportBackup('monday', { ...disk, isFull: true })).phase, 'Succeeded');
    // Another program has made a backup with this tracker, or the export of one has failed.
    await moveTracker('lost-2026');
    const spec = { ...INCREMENTAL, incremental: { ...INCREMENTAL.incremental, fallback: 'Fail' } };
    const failed = await exportBackup('tuesday', { ...disk, spec });
    assert.equal(failed.phase, 'Failed');
    assert.match(failed.message ?? '', /has the changes since the checkpoint lost-2026, and the base .* is of monday-2026/);
    await moveTracker('lost-2026');
    await daemon.guest(['write -q -P 4 4M 64k']);
    const full = await exportBackup('wednesday', disk);
    assert.equal(full.phase, 'Succeeded', full.message);
    assert.partialDeepStrictEqual(full.disks?.[0] ?? {}, { type: 'Full', typeReason: 'ChangesMissing' });
    await succeeds('qemu-img', 'compare', '-q', '-F', 'raw', s3.objectPath(BUCKET, 'wednesday/rootdisk.qcow2'), temp('wednesday.raw'));
    // This image is the base of the next one.
    const next = await exportBackup('thursday', disk);
    assert.partialDeepStrictEqual(next.disks?.[0] ?? {}, { type: 'Incremental' });
    await succeeds('qemu-img', 'compare', '-q', '-F', 'raw', s3.objectPath(BUCKET, 'thursday/rootdisk.qcow2'), temp('thursday.raw'));
  });

  it('fails with the reason of a backup that has ended', async () => {
    await createBackup('monday');
    await setStatus('monday', { conditions: [condition('Done', 'True', 'Backup has failed: VMI is not in a running state')] });
    await namespace.apply(ofBackup('monday', 'http://s3.example'));
    await using worker = await startWorker('monday');
    assert.notEqual(await worker.ended, 0);
    const status = await namespace.finished('monday');
    assert.equal(status.phase, 'Failed');
    assert.match(
      status.message ?? '',
      /VirtualMachineBackup monday has ended: Backup has failed: VMI is not in a running state; create another/,
    );
  });
});
