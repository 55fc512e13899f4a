/** Claims on a node that are bound to places of this machine, as a storage system would have done it. */

import { NODE_NAME } from './configs.ts';

export interface ClaimPlace {
  namespace: string;
  name: string;
  /** A folder, or with `mode` Block a block device. */
  path: string;
  mode?: 'Filesystem' | 'Block';
  accessMode?: 'ReadWriteMany' | 'ReadWriteOnce' | 'ReadWriteOncePod';
}

/** @returns the volume and its claim, to be applied together */
export function boundClaim({ namespace, name, path, mode = 'Filesystem', accessMode = 'ReadWriteMany' }: ClaimPlace): object[] {
  const common = { accessModes: [accessMode], volumeMode: mode, storageClassName: '' };
  const onThisNode = { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [NODE_NAME] }] };
  return [
    {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: `${namespace}-${name}` },
      spec: {
        ...common,
        capacity: { storage: '1Gi' },
        persistentVolumeReclaimPolicy: 'Retain',
        claimRef: { namespace, name },
        ...(mode === 'Block' ? { local: { path } } : { hostPath: { path, type: 'Directory' } }),
        nodeAffinity: { required: { nodeSelectorTerms: [onThisNode] } },
      },
    },
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { namespace, name },
      spec: { ...common, volumeName: `${namespace}-${name}`, resources: { requests: { storage: '1Gi' } } },
    },
  ];
}
