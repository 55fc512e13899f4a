/** KubeVirt's controller of VirtualMachineSnapshots, in few lines. It steps once a second. */

import type { MemoryFleet, StoredObject } from './memory-fleet.ts';

const FINALIZER = 'snapshot.kubevirt.io/vmsnapshot-protection';

export function createVmSnapshots(fleet: MemoryFleet): { step(): void } {
  function take(snapshot: StoredObject): void {
    const { namespace, uid, name } = snapshot.metadata;
    const vm = fleet.find('virtualMachines', { namespace, name: snapshot.spec.source.name });
    const contentName = `vmsnapshot-content-${uid}`;
    const content = fleet.find('virtualMachineSnapshotContents', { namespace, name: contentName });
    if (vm === undefined) return;
    const onClaims = vm.spec.template.spec.volumes.filter((volume: StoredObject) => volume.persistentVolumeClaim !== undefined);
    if (content === undefined) {
      fleet.patch('virtualMachineSnapshots', snapshot, { metadata: { finalizers: [FINALIZER] }, status: { phase: 'InProgress' } });
      const made = fleet.put('virtualMachineSnapshotContents', {
        metadata: { namespace, name: contentName, finalizers: [FINALIZER] },
        spec: {
          source: { virtualMachine: { spec: vm.spec } },
          virtualMachineSnapshotName: name,
          volumeBackups: onClaims.map((volume: StoredObject) => ({
            volumeName: volume.name,
            volumeSnapshotName: `vmsnapshot-${uid}-${volume.name}`,
            persistentVolumeClaim: fleet.find('persistentVolumeClaims', { namespace, name: volume.persistentVolumeClaim.claimName }),
          })),
        },
      });
      for (const volume of onClaims)
        fleet.put('volumeSnapshots', {
          metadata: {
            namespace,
            name: `vmsnapshot-${uid}-${volume.name}`,
            ownerReferences: [{ apiVersion: 'v1beta1', kind: 'VirtualMachineSnapshotContent', name: contentName, uid: made.metadata.uid }],
          },
          spec: {
            source: { persistentVolumeClaimName: volume.persistentVolumeClaim.claimName },
            volumeSnapshotClassName: 'fast-snapshots',
          },
        });
      return;
    }
    const names: string[] = content.spec.volumeBackups.map((backup: StoredObject) => backup.volumeSnapshotName);
    if (!names.every((each) => fleet.find('volumeSnapshots', { namespace, name: each })?.status?.readyToUse === true)) return;
    const creationTime = '2026-01-01T00:00:04Z';
    fleet.patch('virtualMachineSnapshotContents', content, { status: { readyToUse: true, creationTime } });
    fleet.patch('virtualMachineSnapshots', snapshot, {
      status: {
        phase: 'Succeeded',
        readyToUse: true,
        creationTime,
        virtualMachineSnapshotContentName: contentName,
        indications: ['Online', 'GuestAgent'],
      },
    });
  }

  function remove(snapshot: StoredObject): void {
    const { namespace, uid } = snapshot.metadata;
    const content = fleet.find('virtualMachineSnapshotContents', { namespace, name: `vmsnapshot-content-${uid}` });
    if (content !== undefined) {
      fleet.remove('virtualMachineSnapshotContents', content);
      fleet.patch('virtualMachineSnapshotContents', content, { metadata: { finalizers: [] } });
    }
    fleet.patch('virtualMachineSnapshots', snapshot, { metadata: { finalizers: [] } });
  }

  return {
    step() {
      for (const snapshot of fleet.all('virtualMachineSnapshots')) {
        if (snapshot.metadata.deletionTimestamp !== undefined) remove(snapshot);
        else if (snapshot.status?.phase !== 'Succeeded') take(snapshot);
      }
    },
  };
}
