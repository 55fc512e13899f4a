/** Claims on a node: bound to paths of this machine, or for the storage of storage.ts; and snapshots of these. */

import { NODE_NAME } from './configs.ts';

export interface ClaimPlace {
  namespace: string;
  name: string;
  /** A folder, or with `mode` Block a block device. */
  path: string;
  mode?: 'Filesystem' | 'Block';
  accessMode?: 'ReadWriteMany' | 'ReadWriteOnce' | 'ReadWriteOncePod';
}

interface VolumePlace {
  name: string;
  path: string;
  mode: 'Filesystem' | 'Block';
  accessMode?: 'ReadWriteMany' | 'ReadWriteOnce' | 'ReadWriteOncePod';
  storageClassName: string;
  claimRef?: { namespace: string; name: string };
}

/** A volume for any claim of its class, or only for the claim that it names. */
export function availableVolume({ name, path, mode, accessMode = 'ReadWriteOnce', storageClassName, claimRef }: VolumePlace): object {
  const onThisNode = { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [NODE_NAME] }] };
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name },
    spec: {
      accessModes: [accessMode],
      volumeMode: mode,
      storageClassName,
      capacity: { storage: '1Gi' },
      persistentVolumeReclaimPolicy: 'Retain',
      ...(claimRef === undefined ? {} : { claimRef }),
      ...(mode === 'Block' ? { local: { path } } : { hostPath: { path, type: 'Directory' } }),
      nodeAffinity: { required: { nodeSelectorTerms: [onThisNode] } },
    },
  };
}

/** @returns the volume and its claim, to be applied together */
export function boundClaim({ namespace, name, path, mode = 'Filesystem', accessMode = 'ReadWriteMany' }: ClaimPlace): object[] {
  const common = { accessModes: [accessMode], volumeMode: mode, storageClassName: '' };
  const volume = { name: `${namespace}-${name}`, path, mode, accessMode, storageClassName: '', claimRef: { namespace, name } };
  return [
    availableVolume(volume),
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { namespace, name },
      spec: { ...common, volumeName: `${namespace}-${name}`, resources: { requests: { storage: '1Gi' } } },
    },
  ];
}

export interface StorageClaim {
  name: string;
  storageClassName: string;
  mode?: 'Filesystem' | 'Block';
  /** The VolumeSnapshot that it is restored from. */
  snapshotName?: string;
}

export function storageClaim({ name, storageClassName, mode = 'Filesystem', snapshotName }: StorageClaim): object {
  const dataSource = { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: snapshotName };
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      volumeMode: mode,
      storageClassName,
      resources: { requests: { storage: '64Mi' } },
      ...(snapshotName === undefined ? {} : { dataSource }),
    },
  };
}

/** @param className the default class when left out */
export function volumeSnapshot(name: string, claimName: string, className?: string): object {
  return {
    apiVersion: 'snapshot.storage.k8s.io/v1',
    kind: 'VolumeSnapshot',
    metadata: { name },
    spec: { source: { persistentVolumeClaimName: claimName }, ...(className === undefined ? {} : { volumeSnapshotClassName: className }) },
  };
}
