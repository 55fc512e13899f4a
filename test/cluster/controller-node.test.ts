/**
 * `disklift controller` of the chart on a real node, with real storage: claims in use, Block claims, VolumeSnapshots,
 * and storage that fails. Afterwards the cluster has the objects that it had before.
 */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { copyFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { CHART } from '../helpers/chart.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { until } from '../helpers/until.ts';
import { claimPod, WRITER } from './node/claim-pods.ts';
import { storageClaim, volumeSnapshot } from './node/claims.ts';
import { helm, valuesFlags } from './node/helm.ts';
import { createNamespace, type Namespace } from './node/namespace.ts';
import { objectsOf } from './node/objects.ts';
import { type HttpReceiver, startHttpReceiver } from './node/receivers.ts';
import { FAULT_MESSAGE, type NodeStorage, SNAPSHOT_CLASSES, STORAGE_CLASSES } from './node/storage.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeStorage } from './use-node-storage.ts';

type Mode = 'Filesystem' | 'Block';

const WAIT = '--timeout=90s';
const LIMIT_MS = 90_000;

describe('disklift controller on a node', function () {
  this.timeout(240_000);
  let cluster: NodeCluster;
  let storage: NodeStorage;
  let home: Namespace;
  let namespace: Namespace;
  let receiver: HttpReceiver;

  before(async function () {
    ({ cluster, ...storage } = await useNodeStorage(this));
    receiver = await startHttpReceiver(cluster);
    home = await createNamespace(cluster);
    await helm(cluster, home, 'install', 'fleet', CHART, ...valuesFlags(cluster, { controller: { enabled: true, replicas: 1 } }), '--wait');
  });

  beforeEach(async () => {
    namespace = await createNamespace(cluster);
  });

  afterEach(async () => {
    await namespace.kubectl('delete', 'diskexports,pods', '--all', WAIT);
    await namespace.kubectl('delete', 'volumesnapshots,persistentvolumeclaims', '--all', WAIT);
  });

  after(async () => {
    if (home) await helm(cluster, home, 'uninstall', 'fleet', '--wait');
  });

  const get = (object: string, field: string) => namespace.kubectl('get', object, '--output', `jsonpath={${field}}`);

  /** A claim with a disk, to which a pod goes on writing. */
  async function startWriter(mode: Mode, storageClassName: string): Promise<void> {
    await namespace.apply([
      storageClaim({ name: 'disk', storageClassName, mode }),
      claimPod({ name: 'writer', claimName: 'disk', mode, script: WRITER }),
    ]);
    await namespace.kubectl('wait', 'pod/writer', '--for=condition=Ready', WAIT);
    await until('the writer has written', async () => (await namespace.kubectl('logs', 'writer')) === 'writing\n');
  }

  const stopWriter = () => namespace.kubectl('delete', 'pod', 'writer', WAIT);

  const nameOf = (claim: string) => `${namespace.name}-${claim}`;

  /** @param source the claim `disk` when left out */
  async function startExport(name: string, spec: Record<string, unknown> = {}): Promise<void> {
    const source = { persistentVolumeClaim: { claimName: 'disk' } };
    const destination = { http: { url: `${receiver.url}/${nameOf(name)}.qcow2` } };
    const request = diskExport(name, destination, { source, ...spec });
    await namespace.apply([{ ...request, metadata: { name } }]);
  }

  async function outcomeOf(name: string): Promise<DiskExportStatus> {
    const { code, stderr } = await namespace.attempt('wait', `diskexport/${name}`, '--for=condition=Finished', WAIT);
    const status = JSON.parse(await get(`diskexport/${name}`, '.status')) as DiskExportStatus;
    if (code === 0) return status;
    const shown = await Promise.all([
      namespace.kubectl('get', 'pods,jobs,volumesnapshots,persistentvolumeclaims,events'),
      home.kubectl('logs', '--selector', 'app.kubernetes.io/name=disklift', '--tail', '30'),
    ]);
    return assert.fail(`${stderr}${JSON.stringify(status)}\n${shown.join('\n')}`);
  }

  /** The file of the only snapshot on the storage, or of a claim's volume. */
  function diskOf(mode: Mode, folder: string, id: string): string {
    return path.join(folder, id, mode === 'Block' ? 'disk.img' : 'data/disk.img');
  }

  async function volumeDisk(mode: Mode): Promise<string> {
    return diskOf(mode, storage.volumes, `pvc-${await get('pvc/disk', '.metadata.uid')}`);
  }

  /** A snapshot that is being taken has a name with a point. */
  const snapshotIds = () => readdirSync(storage.snapshots).filter((name) => !name.startsWith('.'));

  /** A copy of the disk as the only snapshot has it. */
  function copyOfSnapshot(mode: Mode): string {
    const [id = '', ...others] = snapshotIds();
    assert.deepEqual(others, []);
    const copy = path.join(cluster.directory, `${namespace.name}.img`);
    copyFileSync(diskOf(mode, storage.snapshots, id), copy);
    return copy;
  }

  /** Everything in the cluster except the DiskExport and events. */
  const objects = () => objectsOf(cluster, ['events', 'events.events.k8s.io', 'diskexports.disklift.dev']);

  async function assertObjectsAre(before: string[]): Promise<void> {
    const isSame = async () => JSON.stringify(await objects()) === JSON.stringify(before);
    await until('the objects are as before', isSame, LIMIT_MS).catch(async () => assert.deepEqual(await objects(), before));
  }

  for (const mode of ['Filesystem', 'Block'] as const) {
    it(`exports a ${mode} claim that no pod uses, without a snapshot`, async () => {
      await startWriter(mode, STORAGE_CLASSES.immediate);
      await stopWriter();
      const before = await objects();
      await startExport('idle');
      const status = await outcomeOf('idle');
      assert.deepEqual([status.phase, status.consistency, status.snapshotTime], ['Succeeded', 'Offline', undefined], status.message);
      await assertImageOf(receiver.fileOf(`${nameOf('idle')}.qcow2`), await volumeDisk(mode));
      await assertObjectsAre(before);
    });

    it(`exports a ${mode} claim to which a pod writes, as it was at the moment of the snapshot, and the pod goes on`, async () => {
      await startWriter(mode, STORAGE_CLASSES.waiting);
      const before = await objects();
      await startExport('used');
      await until('there is a snapshot', () => snapshotIds().length > 0, LIMIT_MS);
      const moment = copyOfSnapshot(mode);
      const status = await outcomeOf('used');
      assert.deepEqual([status.phase, status.consistency], ['Succeeded', 'Crash'], status.message);
      assert.ok(
        Date.parse(status.snapshotTime ?? '') <= Date.parse(status.completionTime ?? ''),
        'the status has the time of the snapshot',
      );
      await assertImageOf(receiver.fileOf(`${nameOf('used')}.qcow2`), moment);
      await assertObjectsAre(before);
      assert.deepEqual(readdirSync(storage.snapshots), []);
      const state = '.status.phase} {.status.containerStatuses[0].restartCount';
      assert.equal(await get('pod/writer', state), 'Running 0');
      await stopWriter();
    });
  }

  it('exports when storage that was full at first takes the snapshot', async () => {
    await startWriter('Filesystem', STORAGE_CLASSES.immediate);
    const before = await objects();
    await startExport('late', { snapshot: { mode: 'Always', className: SNAPSHOT_CLASSES.fullAtFirst } });
    const failed = '--for=jsonpath={.status.conditions[?(@.type=="SourceReady")].reason}=SnapshotFailed';
    await namespace.kubectl('wait', 'diskexport/late', failed, WAIT);
    assert.match(await get('diskexport/late', '.status.message'), new RegExp(FAULT_MESSAGE));
    const status = await outcomeOf('late');
    assert.equal(status.phase, 'Succeeded', status.message);
    await assertObjectsAre(before);
  });

  it('exports a VolumeSnapshot, which stays', async () => {
    await startWriter('Filesystem', STORAGE_CLASSES.immediate);
    await namespace.apply([volumeSnapshot('nightly', 'disk')]);
    await namespace.kubectl('wait', 'volumesnapshot/nightly', '--for=jsonpath={.status.readyToUse}=true', WAIT);
    const before = await objects();
    await startExport('given', { source: { volumeSnapshot: { name: 'nightly' } } });
    const status = await outcomeOf('given');
    assert.equal(status.phase, 'Succeeded', status.message);
    await assertImageOf(receiver.fileOf(`${nameOf('given')}.qcow2`), copyOfSnapshot('Filesystem'));
    await assertObjectsAre(before);
  });

  for (const { fault, snapshot, storageClassName = STORAGE_CLASSES.immediate, message } of [
    { fault: 'the storage refuses the snapshot', snapshot: { className: SNAPSHOT_CLASSES.fails }, message: FAULT_MESSAGE },
    { fault: 'the snapshot is never ready', snapshot: { className: SNAPSHOT_CLASSES.neverReady }, message: 'not ready' },
    { fault: 'the storage refuses the clone', storageClassName: STORAGE_CLASSES.restoreFails, message: FAULT_MESSAGE },
    {
      fault: 'the storage does not answer when it should make the clone',
      storageClassName: STORAGE_CLASSES.restoreHangs,
      message: 'clone',
    },
  ])
    it(`fails with a message, and leaves nothing, when ${fault}`, async () => {
      await startWriter('Filesystem', storageClassName);
      const before = await objects();
      await startExport('broken', { snapshot: { mode: 'Auto', timeoutSeconds: 20, ...snapshot } });
      const status = await outcomeOf('broken');
      assert.equal(status.phase, 'Failed', status.message);
      assert.match(status.message ?? '', new RegExp(message));
      await assertObjectsAre(before);
      assert.deepEqual(readdirSync(storage.snapshots), []);
      assert.equal(await get('pod/writer', '.status.phase'), 'Running');
    });
});
