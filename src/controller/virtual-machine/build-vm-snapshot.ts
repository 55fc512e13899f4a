/** The VirtualMachineSnapshot that the controller creates for an export of a running VM. */

import type { UncheckedObject } from './read-fields.ts';

const VM_SNAPSHOT_API_VERSION = 'snapshot.kubevirt.io/v1beta1';

/**
 * Records that a guest ran when the snapshot was requested. KubeVirt drops its own record if the guest stops before the
 * snapshot is complete, and then the snapshot reads like one of a stopped VM.
 */
export const GUEST_RAN_ANNOTATION = 'disklift.dev/guest-ran';

/** KubeVirt's own default of failureDeadline, which is also the longest time that the guest stays frozen. */
const MAX_FREEZE_SECONDS = 300;

export interface VmSnapshotOptions {
  export: { metadata: { name: string; namespace: string; uid: string } };
  vmName: string;
  /**
   * After this time, or after {@link MAX_FREEZE_SECONDS}, KubeVirt gives up and thaws the guest, unless all volumes are
   * cut by then.
   */
  timeoutSeconds: number;
  /** As {@link isRunning} judges the VM now. */
  isRunning: boolean;
}

export interface VmSnapshotManifest extends UncheckedObject {
  apiVersion: typeof VM_SNAPSHOT_API_VERSION;
  kind: 'VirtualMachineSnapshot';
  metadata: UncheckedObject['metadata'] & { name: string; namespace: string; ownerReferences: object[] };
  spec: object;
}

export function buildVmSnapshot({ export: { metadata }, vmName, timeoutSeconds, isRunning }: VmSnapshotOptions): VmSnapshotManifest {
  return {
    apiVersion: VM_SNAPSHOT_API_VERSION,
    kind: 'VirtualMachineSnapshot',
    metadata: {
      name: `disklift-${metadata.uid}`,
      namespace: metadata.namespace,
      labels: {
        'app.kubernetes.io/name': 'disklift',
        'app.kubernetes.io/managed-by': 'disklift-controller',
        'disklift.dev/export-uid': metadata.uid,
      },
      annotations: { [GUEST_RAN_ANNOTATION]: String(isRunning) },
      ownerReferences: [
        { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', name: metadata.name, uid: metadata.uid, controller: true },
      ],
    },
    spec: {
      source: { apiGroup: 'kubevirt.io', kind: 'VirtualMachine', name: vmName },
      // The same as the default of KubeVirt, stated because a snapshot that stays would fill the storage.
      deletionPolicy: 'Delete',
      failureDeadline: `${Math.min(timeoutSeconds, MAX_FREEZE_SECONDS)}s`,
    },
  };
}
