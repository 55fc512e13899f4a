import assert from 'node:assert/strict';
import { buildVmSnapshot } from '../../../../src/controller/virtual-machine/build-vm-snapshot.ts';
import { readVmSnapshot } from '../../../../src/controller/virtual-machine/read-vm-snapshot.ts';
import { contentOf, onClaim, snapshotOf, vmOf } from './vm-objects.ts';

const VM = vmOf({
  volumes: [onClaim('root'), onClaim('data')],
  disks: [
    { name: 'root', disk: {} },
    { name: 'data', disk: {} },
  ],
});
const CONTENT = contentOf(VM, ['root', 'data']);
const RAN = { annotations: { 'disklift.dev/guest-ran': 'true' } };

function ready(...args: Parameters<typeof readVmSnapshot>) {
  const state = readVmSnapshot(...args);
  assert.equal(state.state, 'ready', JSON.stringify(state));
  return state;
}

const indicated = (...indications: string[]) =>
  snapshotOf({ metadata: RAN, status: { indications, sourceIndications: indications.map((indication) => ({ indication, message: '' })) } });

describe('buildVmSnapshot', () => {
  it('names the snapshot by the export, which owns it, and states the deadline as KubeVirt reads it', () => {
    const options = { export: { metadata: { name: 'nightly', namespace: 'vms', uid: 'u-1' } }, vmName: 'db01', timeoutSeconds: 600 };
    assert.deepEqual(buildVmSnapshot({ ...options, isRunning: true }), {
      apiVersion: 'snapshot.kubevirt.io/v1beta1',
      kind: 'VirtualMachineSnapshot',
      metadata: {
        name: 'disklift-u-1',
        namespace: 'vms',
        labels: {
          'app.kubernetes.io/name': 'disklift',
          'app.kubernetes.io/managed-by': 'disklift-controller',
          'disklift.dev/export-uid': 'u-1',
        },
        annotations: { 'disklift.dev/guest-ran': 'true' },
        ownerReferences: [{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', name: 'nightly', uid: 'u-1', controller: true }],
      },
      spec: {
        source: { apiGroup: 'kubevirt.io', kind: 'VirtualMachine', name: 'db01' },
        deletionPolicy: 'Delete',
        failureDeadline: '300s',
      },
    });
  });

  it('keeps no guest frozen for longer than five minutes, however much time the export has', () => {
    const deadlineOf = (timeoutSeconds: number) => {
      const metadata = { name: 'nightly', namespace: 'vms', uid: 'u-1' };
      const { spec } = buildVmSnapshot({ export: { metadata }, vmName: 'db01', timeoutSeconds, isRunning: true });
      return (spec as { failureDeadline: string }).failureDeadline;
    };
    assert.deepEqual([1, 299, 300, 301, 86_400].map(deadlineOf), ['1s', '299s', '300s', '300s', '300s']);
  });
});

describe('readVmSnapshot', () => {
  it('gives the VolumeSnapshots of a stopped VM, what their clones require, and the time of the first cut', () => {
    const claim = { size: '20Gi', storageClassName: 'fast', accessModes: ['ReadWriteMany'], volumeMode: 'Block' };
    assert.deepEqual(readVmSnapshot(snapshotOf(), CONTENT), {
      state: 'ready',
      consistency: 'Offline',
      snapshotTime: '2026-11-30T10:00:03Z',
      volumes: [
        { name: 'root', volumeSnapshotName: 'vmsnapshot-1-volume-root', claim: { name: 'db01-root', ...claim } },
        { name: 'data', volumeSnapshotName: 'vmsnapshot-1-volume-data', claim: { name: 'db01-data', ...claim } },
      ],
      leftOut: [],
    });
  });

  it('has the labels and annotations of the claim, for vm.yaml', () => {
    const labels = { tier: 'gold' };
    const annotations = { 'example.com/a': 'b', 'example.com/broken': 7 };
    const persistentVolumeClaim = { metadata: { name: 'db01-root', labels, annotations } };
    const volumeBackups = [{ volumeName: 'root', volumeSnapshotName: 'a', persistentVolumeClaim }];
    const content = { ...CONTENT, spec: { source: { virtualMachine: VM }, volumeBackups } };
    assert.partialDeepStrictEqual(ready(snapshotOf(), content).volumes[0]?.claim, { labels, annotations: { 'example.com/a': 'b' } });
  });

  it('takes the time of KubeVirt where storage reports none', () => {
    assert.equal(
      ready(snapshotOf(), { ...CONTENT, status: { creationTime: '2026-11-30T10:00:09Z' } }).snapshotTime,
      '2026-11-30T10:00:09Z',
    );
    assert.equal(ready(snapshotOf(), { ...CONTENT, status: {} }).snapshotTime, '2026-11-30T10:00:09Z');
  });

  for (const [indications, consistency] of [
    [['Online', 'GuestAgent'], 'Application'],
    [['GuestAgent', 'Online', 'PartialSnapshot'], 'Application'],
    [['Online', 'NoGuestAgent'], 'Crash'],
    [['Online', 'GuestAgent', 'NoGuestAgent'], 'Crash'],
    [['Online', 'GuestAgent', 'QuiesceTimeout'], 'Crash'],
    [['Online', 'GuestAgent', 'QuiesceFailed'], 'Crash'],
    [['Online', 'GuestAgent', 'Paused'], 'Crash'],
    [['Online', 'GuestAgent', 'SomethingNew'], 'Crash'],
    [['Online', 'Paused'], 'Crash'],
    [['Online'], 'Crash'],
  ] as const)
    it(`calls a snapshot ${consistency} that indicates ${indications.join(', ')}`, () => {
      assert.equal(ready(indicated(...indications), CONTENT).consistency, consistency);
      // An older KubeVirt writes the first field only, and a later one the second only.
      for (const field of ['indications', 'sourceIndications']) {
        const snapshot = indicated(...indications);
        delete (snapshot.status as Record<string, unknown>)[field];
        assert.equal(ready(snapshot, CONTENT).consistency, consistency, field);
      }
    });

  it('calls a snapshot Crash that indicates no guest although one ran when it was requested', () => {
    assert.equal(ready(snapshotOf({ metadata: RAN }), CONTENT).consistency, 'Crash');
    assert.equal(ready(snapshotOf({ metadata: { annotations: {} } }), CONTENT).consistency, 'Crash');
  });

  it('calls a frozen snapshot Crash if another VM may write to one of its disks', () => {
    const shared = vmOf({ volumes: [onClaim('root'), onClaim('data')], disks: [{ name: 'data', disk: {}, shareable: true }] });
    const content = contentOf(shared, ['root', 'data']);
    assert.equal(ready(indicated('Online', 'GuestAgent'), content).consistency, 'Crash');
    assert.equal(ready(indicated('Online', 'GuestAgent'), content, ['root']).consistency, 'Application');
    assert.equal(ready(snapshotOf(), content).consistency, 'Offline');
  });

  it('lists a disk that KubeVirt left out of the snapshot beside those that cannot be exported', () => {
    const vm = vmOf({ volumes: [onClaim('root'), onClaim('data'), { name: 'scratch', emptyDisk: {} }] });
    const { volumes, leftOut } = ready(snapshotOf(), contentOf(vm, ['root']));
    assert.deepEqual(
      volumes.map(({ name }) => name),
      ['root'],
    );
    assert.deepEqual(
      leftOut.map(({ name }) => name),
      ['scratch', 'data'],
    );
    assert.match(leftOut[1]?.why ?? '', /VolumeSnapshotClass/);
  });

  it('does not export a dump of memory or the state of a TPM, which KubeVirt keeps in the snapshot', () => {
    const vm = vmOf({ volumes: [onClaim('root'), { name: 'dump', memoryDump: { claimName: 'db01-dump' } }] });
    assert.deepEqual(
      ready(snapshotOf(), contentOf(vm, ['dump', 'persistent-state-for-db01', 'root'])).volumes.map(({ name }) => name),
      ['root'],
    );
  });

  it('fails if a selected volume is not in the snapshot, or none is', () => {
    const content = contentOf(VM, ['root']);
    assert.equal(ready(snapshotOf(), content, ['root']).leftOut.length, 0);
    for (const selected of [
      ['root', 'data'],
      ['root', 'rooot'],
    ]) {
      const state = readVmSnapshot(snapshotOf(), content, selected);
      assert.partialDeepStrictEqual(state, { state: 'failed', reason: 'VolumesNotInSnapshot' });
      assert.match('message' in state ? state.message : '', new RegExp(`^${selected[1]}: `));
    }
    assert.partialDeepStrictEqual(readVmSnapshot(snapshotOf(), contentOf(VM, [])), { state: 'failed', reason: 'VolumesNotInSnapshot' });
    assert.deepEqual(readVmSnapshot(snapshotOf(), { metadata: {} }), {
      state: 'failed',
      reason: 'VolumesNotInSnapshot',
      message: 'the VM has no volume on a claim',
    });
  });

  it('waits while KubeVirt says what it waits for, in the reason of its condition', () => {
    const reason = 'Source not locked source vms/db01 volume doesnt exist: db01-root';
    const progressing = { type: 'Progressing', status: 'False', reason };
    const waiting = {
      phase: 'InProgress',
      readyToUse: false,
      conditions: [progressing, { type: 'Ready', status: 'False', reason: 'Not ready' }],
    };
    assert.deepEqual(readVmSnapshot({ metadata: {}, status: waiting }, undefined), { state: 'pending', message: reason });
    const error = { message: 'command Freeze failed:\n  agent is not connected' };
    assert.deepEqual(readVmSnapshot({ metadata: {}, status: { ...waiting, error } }, undefined), {
      state: 'pending',
      message: 'command Freeze failed: agent is not connected',
      hasError: true,
    });
    assert.equal(readVmSnapshot({ metadata: {} }, undefined).state, 'pending');
  });

  it('waits while the phase is Succeeded and the VolumeSnapshots cannot be cloned yet', () => {
    const error = { message: 'VolumeSnapshot a error: upload failed' };
    for (const readyToUse of [false, undefined, 'true'])
      assert.deepEqual(readVmSnapshot(snapshotOf({ status: { readyToUse, error } }), CONTENT), {
        state: 'pending',
        message: 'the VolumeSnapshots are not ready to be cloned: VolumeSnapshot a error: upload failed',
        hasError: true,
      });
    assert.equal(readVmSnapshot(snapshotOf(), undefined).state, 'pending');
  });

  it('fails with the words of KubeVirt at its deadline, also if the volumes become ready later', () => {
    const conditions = [{ type: 'Failure', status: 'True', reason: 'snapshot deadline exceeded' }];
    const state = readVmSnapshot(snapshotOf({ status: { phase: 'Failed', conditions, error: { message: 'Freeze failed' } } }), CONTENT);
    assert.deepEqual(state, { state: 'failed', reason: 'SnapshotFailed', message: 'snapshot deadline exceeded: Freeze failed' });
  });

  it('fails if the VM snapshot is terminating', () => {
    const terminating = snapshotOf({ metadata: { deletionTimestamp: '2026-11-30T10:00:10Z' } });
    for (const snapshot of [terminating, snapshotOf({ status: { phase: 'Deleting' } })])
      assert.partialDeepStrictEqual(readVmSnapshot(snapshot, CONTENT), { state: 'failed', reason: 'SnapshotFailed' });
  });
});
