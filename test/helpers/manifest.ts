/** DiskExport manifests and the objects that they refer to, as a user writes them. */

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  spec: Record<string, unknown>;
}

/** The namespace of all these objects. */
export const NAMESPACE = 'vms';

/** Without receipts, so that a destination holds the images alone; `receipt: undefined` leaves the default. */
export function diskExport(name: string, destination: object, spec: Record<string, unknown> = {}): Manifest {
  return {
    apiVersion: 'disklift.dev/v1alpha1',
    kind: 'DiskExport',
    metadata: { name, namespace: NAMESPACE },
    spec: { source: { persistentVolumeClaim: { claimName: 'claim' } }, destination, receipt: false, ...spec },
  };
}

export function credentialsSecret(name: string, stringData: Record<string, string>, allowedHosts?: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name,
      namespace: NAMESPACE,
      labels: { 'disklift.dev/credentials': 'true' },
      ...(allowedHosts === undefined ? {} : { annotations: { 'disklift.dev/allowed-hosts': allowedHosts } }),
    },
    stringData,
  };
}
