/** The objects of a fleet: claims, the pods that use them, and a DiskExport of each claim. Pure. */

import type { Unsaved } from '../../../src/stores/kubernetes/client/contract.ts';
import type { ClaimObject, FleetPodObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../../../src/stores/kubernetes/client/objects.ts';

export interface FleetSize {
  exports: number;
  namespaces: number;
  nodes: number;
}

/** One claim with its export. */
export interface Member {
  namespace: string;
  claimName: string;
  exportName: string;
  /** Node of the pod that uses the claim; undefined for a claim that no pod uses. */
  nodeName: string | undefined;
}

/** One of so many claims is used by no pod. */
const FREE_EVERY = 5;

/** Prime, so that the pods of one namespace are on different nodes. */
const STRIDE = 7919;

export function namespacesOf({ namespaces }: FleetSize): string[] {
  return Array.from({ length: namespaces }, (_, index) => `fleet-${index}`);
}

export function nodesOf({ nodes }: FleetSize): string[] {
  return Array.from({ length: nodes }, (_, index) => `node-${index}`);
}

/**
 * Namespace after namespace: the exports of the last one are the youngest, so that a queue in the order of creation
 * would serve it last.
 */
export function membersOf(size: FleetSize): Member[] {
  const nodes = nodesOf(size);
  const perNamespace = Math.ceil(size.exports / size.namespaces);
  return Array.from({ length: size.exports }, (_, index) => ({
    namespace: `fleet-${Math.floor(index / perNamespace)}`,
    claimName: `disk-${index % perNamespace}`,
    exportName: `export-${index % perNamespace}`,
    nodeName: index % FREE_EVERY === 0 ? undefined : nodes[(index * STRIDE) % nodes.length],
  }));
}

export function claimOf({ namespace, claimName }: Member): Unsaved<ClaimObject> {
  return {
    metadata: { namespace, name: claimName },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: '',
      volumeName: `${namespace}-${claimName}`,
      resources: { requests: { storage: '10Gi' } },
    },
  };
}

/** About as large as the pod of a VM. It mounts the claim read-only, so that the export needs no snapshot. */
export function guestOf({ namespace, claimName, nodeName }: Member): Unsaved<FleetPodObject> {
  const env = Array.from({ length: 20 }, (_, index) => ({ name: `VARIABLE_${index}`, value: `value ${index} of the guest's container` }));
  const spec = {
    ...(nodeName === undefined ? {} : { nodeName }),
    terminationGracePeriodSeconds: 0,
    automountServiceAccountToken: false,
    containers: ['compute', 'volume', 'log'].map((name) => ({
      name,
      image: 'registry.example/launcher:1',
      env,
      volumeMounts: [{ name: 'disk', mountPath: '/disk', readOnly: true }],
    })),
    volumes: [
      { name: 'disk', persistentVolumeClaim: { claimName, readOnly: true } },
      { name: 'scratch', emptyDir: {} },
    ],
  };
  return { metadata: { namespace, name: `guest-${claimName}` }, spec };
}

export function exportOf({ namespace, claimName, exportName }: Member): Unsaved<ExportObject> {
  return {
    metadata: { namespace, name: exportName },
    spec: {
      source: { persistentVolumeClaim: { claimName } },
      destination: { http: { url: 'https://images.example/backups/{namespace}/{name}/{disk}.qcow2' } },
      checksum: 'SHA256',
      ttlSecondsAfterFinished: 86_400,
    },
  };
}
