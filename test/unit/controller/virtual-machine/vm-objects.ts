/** Objects of KubeVirt as its API server sends them, cut to the fields that count. */

import type { UncheckedObject } from '../../../../src/controller/virtual-machine/read-fields.ts';

export interface VmParts {
  volumes?: object[];
  disks?: object[];
  filesystems?: object[];
  domain?: object;
  spec?: object;
  status?: object;
  metadata?: object;
}

export function vmOf({ volumes = [], disks = [], filesystems, domain, spec, status, metadata }: VmParts): UncheckedObject {
  const devices = { disks, ...(filesystems && { filesystems }) };
  return {
    metadata: { name: 'db01', namespace: 'vms', ...metadata },
    spec: {
      runStrategy: 'Always',
      ...spec,
      template: { metadata: { creationTimestamp: null }, spec: { domain: { devices, ...domain }, volumes } },
    },
    ...(status && { status }),
  };
}

export const onClaim = (name: string, claimName = `db01-${name}`) => ({ name, persistentVolumeClaim: { claimName } });

export interface SnapshotParts {
  status?: object;
  metadata?: object;
}

/** A VirtualMachineSnapshot of a stopped VM that is ready. */
export function snapshotOf({ status, metadata }: SnapshotParts = {}): UncheckedObject {
  return {
    metadata: { name: 'disklift-1', namespace: 'vms', annotations: { 'disklift.dev/guest-ran': 'false' }, ...metadata },
    spec: {},
    status: {
      phase: 'Succeeded',
      readyToUse: true,
      creationTime: '2026-11-30T10:00:09Z',
      virtualMachineSnapshotContentName: 'vmsnapshot-content-1',
      conditions: [
        { type: 'Progressing', status: 'False', reason: 'Operation complete' },
        { type: 'Ready', status: 'True', reason: 'Ready' },
      ],
      ...status,
    },
  };
}

/** @param backups names of the volumes that the snapshot holds, in the order of their creation */
export function contentOf(vm: UncheckedObject, backups: readonly string[]): UncheckedObject {
  const vsName = (name: string) => `vmsnapshot-1-volume-${name}`;
  return {
    metadata: { name: 'vmsnapshot-content-1', namespace: 'vms' },
    spec: {
      source: { virtualMachine: vm },
      virtualMachineSnapshotName: 'disklift-1',
      volumeBackups: backups.map((name) => ({
        volumeName: name,
        volumeSnapshotName: vsName(name),
        persistentVolumeClaim: {
          metadata: { name: `db01-${name}` },
          spec: {
            accessModes: ['ReadWriteMany'],
            resources: { requests: { storage: '20Gi' } },
            storageClassName: 'fast',
            volumeMode: 'Block',
            volumeName: 'pv-7',
          },
        },
      })),
    },
    status: {
      creationTime: '2026-11-30T10:00:09Z',
      readyToUse: true,
      volumeSnapshotStatus: backups
        .map((name, index) => ({ volumeSnapshotName: vsName(name), creationTime: `2026-11-30T10:00:0${index + 3}Z`, readyToUse: true }))
        .toReversed(),
    },
  };
}
