/** Exports of a VM by the controller, from the DiskExport to the images at an S3 server. */

// Runs alone: a dozen programs, and deadlines of the test's own.

import assert from 'node:assert/strict';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { FAULT_MESSAGE } from './node/storage.ts';
import {
  type SceneOptions,
  setDefaultSnapshotClass,
  startVmCluster,
  startVmScene,
  textOf,
  type VmCluster,
  type VmScene,
} from './vm-exports.ts';

describe('a VM that the controller exports', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  let cluster: VmCluster;
  let scene: VmScene | undefined;

  before(async function () {
    cluster = await startVmCluster(this);
  });

  after(() => cluster?.[Symbol.asyncDispose]());

  afterEach(async () => {
    await scene?.[Symbol.asyncDispose]();
    scene = undefined;
    if (cluster === undefined) return;
    await setDefaultSnapshotClass(cluster.kubevirt, 'deleted');
    assert.deepEqual(cluster.virtApi.unknownCalls, []);
  });

  async function start(state: SceneOptions['state'], options: Partial<SceneOptions> = {}): Promise<VmScene> {
    scene = await startVmScene({ cluster, directory: temp('.'), state, ...options });
    return scene;
  }

  const conditionOf = ({ conditions }: DiskExportStatus, type: string) => conditions?.find((condition) => condition.type === type);

  function assertFailed(status: DiskExportStatus, reason: string, message: RegExp): void {
    assert.equal(status.phase, 'Failed', status.message);
    assert.match(status.message ?? '', message);
    assert.equal(conditionOf(status, 'Succeeded')?.reason, reason);
  }

  /** The claims of vm.yaml, and the VM without the field that the tests vary. */
  const manifestOf = (vm: VmScene, folder: string) =>
    textOf(vm.arrived(`${folder}/vm.yaml`))
      .replaceAll(vm.namespace.name, '')
      .replace(/runStrategy: .*/, '');

  const NIGHT = { 'disklift.dev/scheduled-time': '2026-11-30T01:30:00Z' };
  const FOLDER = 'db01/20261130T013000Z';
  let manifestOfRunning = '';

  it('arrives with all disks as they were when KubeVirt froze its guest, and with vm.yaml', async () => {
    const vm = await start('Running');
    await vm.export('nightly', { annotations: NIGHT });
    const status = await vm.finished('nightly');
    assert.deepEqual([status.phase, status.consistency], ['Succeeded', 'Application'], status.message);
    assert.ok(Math.abs(Date.parse(status.snapshotTime ?? '') - Date.now()) < 60_000);
    const leftOut = conditionOf(status, 'VolumesLeftOut');
    assert.deepEqual([leftOut?.status, leftOut?.reason], ['True', 'NotExportable']);
    assert.match(leftOut?.message ?? '', /^not exported: tools \(comes from the container image registry\.example\/tools; [^)]+\)$/);
    await vm.assertArrived(`${FOLDER}/root.qcow2`, vm.guest.frozenCopyOf(vm.root));
    await vm.assertArrived(`${FOLDER}/data.qcow2`, vm.guest.frozenCopyOf(vm.data));
    assert.deepEqual(vm.freezes(), ['freeze', 'unfreeze']);
    // The export itself may take ten minutes by default.
    assert.equal(cluster.virtApi.calls[0]?.unfreezeTimeout, '5m0s');
    const { writes } = vm.guest;
    await until('the guest writes', () => vm.guest.writes > writes);
    const flags = ['--namespace', 'default', '--dry-run=server', '--filename', vm.arrived(`${FOLDER}/vm.yaml`)];
    const applied = await cluster.kubevirt.api.kubectl('apply', ...flags);
    assert.deepEqual([applied.code, applied.stderr], [0, '']);
    manifestOfRunning = manifestOf(vm, FOLDER);
    await vm.assertNothingLeft();
    assert.deepEqual(vm.controller.warnings, []);
  });

  it('arrives without a snapshot when it is stopped, with the same vm.yaml', async () => {
    const vm = await start('Halted');
    await vm.export('nightly', { annotations: NIGHT });
    const status = await vm.finished('nightly');
    assert.deepEqual([status.phase, status.consistency, status.snapshotTime], ['Succeeded', 'Offline', undefined], status.message);
    await vm.assertArrived(`${FOLDER}/root.qcow2`, vm.root);
    await vm.assertArrived(`${FOLDER}/data.qcow2`, vm.data);
    const created = vm.controller.requests.filter(({ verb }) => verb === 'create').map(({ resource }) => resource);
    assert.deepEqual([...new Set(created)].sort(), ['configmaps', 'events', 'jobs', 'rolebindings', 'serviceaccounts']);
    assert.deepEqual(vm.freezes(), []);
    if (manifestOfRunning !== '') assert.equal(manifestOf(vm, FOLDER), manifestOfRunning);
    await vm.assertNothingLeft();
  });

  it('is Crash without a guest agent, which an event reports, and only the selected volume arrives', async () => {
    const vm = await start('Running', { hasAgent: false });
    await vm.export('one', { vm: { volumes: ['data'], manifest: false } });
    const status = await vm.finished('one');
    assert.deepEqual([status.phase, status.consistency], ['Succeeded', 'Crash'], status.message);
    assert.deepEqual(
      status.disks?.map(({ path }) => path),
      ['data'],
    );
    assert.equal(conditionOf(status, 'VolumesLeftOut'), undefined);
    const isWarned = async () => (await vm.events('one')).some(({ type, reason }) => type === 'Warning' && reason === 'CrashConsistent');
    await until('an event', isWarned);
    await vm.assertNothingLeft();
  });

  it('fails at once for a volume that it does not have, and for one that cannot be exported', async () => {
    const vm = await start('Halted');
    await vm.export('unknown', { vm: { volumes: ['root', 'home'] } });
    await vm.export('container', { vm: { volumes: ['tools'] } });
    assertFailed(await vm.finished('unknown'), 'VolumeNotFound', /^the VM db01 has no volume home$/);
    const message = /^the volume tools comes from the container image registry\.example\/tools; /;
    assertFailed(await vm.finished('container'), 'VolumeNotExportable', message);
    await vm.assertNothingLeft();
  });

  it('fails with the message of storage when KubeVirt gives up the snapshot, and is thawed', async () => {
    const vm = await start('Running');
    await setDefaultSnapshotClass(cluster.kubevirt, 'fails');
    await vm.export('failing', { spec: { snapshot: { timeoutSeconds: 4 } } });
    const status = await vm.finished('failing');
    assertFailed(status, 'SnapshotFailed', new RegExp(FAULT_MESSAGE));
    const isEnd = ({ type, reason, message }: { type: string; reason: string; message: string }) =>
      type === 'Warning' && reason === 'SnapshotFailed' && /deadline exceeded|not ready within 4 seconds/.test(message);
    await until('an event of the end', async () => (await vm.events('failing')).some(isEnd));
    await vm.assertNothingLeft();
    assert.deepEqual(vm.freezes(), ['freeze', 'unfreeze']);
  });

  it('fails when the snapshot cannot be cloned in time, long after it was thawed', async () => {
    const vm = await start('Running');
    await setDefaultSnapshotClass(cluster.kubevirt, 'neverReady');
    await vm.export('slow', { spec: { snapshot: { timeoutSeconds: 6 } } });
    await until('the guest is thawed', () => vm.freezes().at(-1) === 'unfreeze');
    assert.equal((await vm.namespace.get('slow'))?.status?.completionTime, undefined);
    const message = /^the VolumeSnapshots are not ready to be cloned; it was not ready within 6 seconds$/;
    assertFailed(await vm.finished('slow'), 'SnapshotPending', message);
    await vm.assertNothingLeft();
  });

  for (const action of ['cancelled', 'deleted'] as const) {
    it(`is thawed when the export is ${action} while the snapshot is taken, and nothing is left`, async () => {
      const vm = await start('Running');
      await setDefaultSnapshotClass(cluster.kubevirt, 'fails');
      await vm.export('short');
      await until('the guest is frozen', () => vm.freezes().length > 0);
      await vm.namespace.until('short', (there) => there?.status?.message?.includes(FAULT_MESSAGE) === true);
      assert.deepEqual(vm.freezes(), ['freeze']);
      if (action === 'cancelled') await vm.namespace.edit('short', { cancel: true });
      else await vm.namespace.remove('short');
      await until('the guest is thawed', () => vm.freezes().at(-1) === 'unfreeze');
      await vm.assertNothingLeft();
      const there = await vm.namespace.get('short');
      assert.equal(there?.status?.phase, action === 'cancelled' ? 'Cancelled' : undefined);
    });
  }

  it('waits for the end of the guest with mode Never, and fails where it may not wait', async () => {
    const vm = await start('Running');
    const snapshot = { mode: 'Never' };
    await vm.export('refused', { source: { inUse: 'Fail' }, spec: { snapshot } });
    await vm.export('waiting', { source: { inUse: 'Wait' }, spec: { snapshot } });
    const refused = await vm.finished('refused');
    assertFailed(refused, 'SourceInUse', /the container compute of the pod virt-launcher-db01-/);
    await vm.namespace.until('waiting', (there) => /in use/.test(there?.status?.message ?? ''));
    await vm.stopGuest();
    const status = await vm.finished('waiting');
    assert.equal(status.phase, 'Succeeded', status.message);
    assert.deepEqual(vm.freezes(), []);
    await vm.assertNothingLeft();
  });
});
