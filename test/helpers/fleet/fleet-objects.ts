/** Objects of users for the scenes of the controller. */

import { NAMESPACE } from './fleet-scene.ts';
import type { MemoryFleet, StoredObject } from './memory-fleet.ts';

export function putStorage(fleet: MemoryFleet, deletionPolicy: 'Delete' | 'Retain' = 'Delete'): void {
  fleet.put('storageClasses', { metadata: { name: 'fast' }, provisioner: 'disks.example' });
  fleet.put('volumeSnapshotClasses', { metadata: { name: 'fast-snapshots' }, driver: 'disks.example', deletionPolicy });
}

export function putClaim(fleet: MemoryFleet, name = 'root'): void {
  fleet.put('persistentVolumeClaims', {
    metadata: { namespace: NAMESPACE, name, finalizers: ['kubernetes.io/pvc-protection'] },
    spec: {
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Filesystem',
      storageClassName: 'fast',
      volumeName: `pv-${name}`,
      resources: { requests: { storage: '10Gi' } },
    },
    status: { phase: 'Bound', capacity: { storage: '10Gi' } },
  });
}

/** A pod that writes to the claims. */
export function putWriter(fleet: MemoryFleet, ...claims: string[]): StoredObject {
  return fleet.put('pods', {
    metadata: { namespace: NAMESPACE, name: 'virt-launcher-db01' },
    spec: {
      nodeName: 'node-a',
      volumes: claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } })),
      containers: [{ name: 'compute', volumeMounts: claims.map((name) => ({ name, mountPath: `/${name}` })) }],
    },
    status: { phase: 'Running' },
  });
}

/** A pod of the chart that serves the claim. */
export function putSidecar(fleet: MemoryFleet, claimName: string): void {
  fleet.put('pods', {
    metadata: { namespace: NAMESPACE, name: 'sidecar' },
    spec: {
      volumes: [{ name: 'disks', persistentVolumeClaim: { claimName, readOnly: true } }],
      containers: [{ name: 'disklift', args: ['sidecar', '--volume', `${claimName}=/disks`] }],
    },
    status: { phase: 'Running' },
  });
}

export function putVm(fleet: MemoryFleet, isRunning: boolean, claims: readonly string[], further: readonly object[] = []): void {
  const volumes = [...claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } })), ...further];
  fleet.put('virtualMachines', {
    metadata: { namespace: NAMESPACE, name: 'db01' },
    spec: { runStrategy: isRunning ? 'Always' : 'Halted', template: { spec: { domain: { devices: {} }, volumes } } },
    status: { printableStatus: isRunning ? 'Running' : 'Stopped' },
  });
  if (isRunning)
    fleet.put('virtualMachineInstances', {
      metadata: { namespace: NAMESPACE, name: 'db01' },
      spec: { volumes },
      status: { phase: 'Running' },
    });
}

export interface ExportParts {
  name?: string;
  source?: object;
  snapshot?: object;
  spec?: object;
}

const DESTINATION = { http: { url: 'https://images.example/{name}/{disk}.qcow2' } };

export function putExport(fleet: MemoryFleet, { name = 'nightly', source, snapshot, spec }: ExportParts = {}): StoredObject {
  return fleet.put('exports', {
    metadata: { namespace: NAMESPACE, name },
    spec: {
      source: source ?? { persistentVolumeClaim: { claimName: 'root' } },
      destination: DESTINATION,
      ...(snapshot && { snapshot }),
      ...spec,
    },
  });
}
