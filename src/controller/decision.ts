/** The controller's decision for one export: calls of the API server, and the state that users see. */

import type { Condition, DiskExportStatus } from '../resource/disk-export.ts';
import type { KubeObject } from '../stores/kubernetes/client/objects.ts';

/** Resources of which the controller makes objects for one export. */
export type ChildResource = 'jobs' | 'configMaps' | 'persistentVolumeClaims' | 'volumeSnapshots' | 'virtualMachineSnapshots';

export type Action =
  /** Exists already: counts as done. */
  | { kind: 'create'; resource: ChildResource; object: NewObject }
  | { kind: 'remove'; resource: ChildResource; object: KubeObject }
  /** Hands the snapshot from its export to the claim. */
  | { kind: 'keep-snapshot'; object: KubeObject; claim: KubeObject }
  /** ServiceAccount and RoleBinding of the workers in the export's namespace. */
  | { kind: 'ensure-access' }
  /** Its time to live is over. */
  | { kind: 'remove-export' }
  /** In a namespace that is being deleted no pod can be made that would abort the upload. */
  | { kind: 'remove-finalizer' };

/** The state of an export that no worker reports. */
export interface Report {
  /** One word in CamelCase: the reason of the condition Succeeded. */
  reason: string;
  message: string;
  /** The condition SourceReady. Left out when it does not change. */
  sourceReady?: { status: Condition['status']; reason: string; message: string };
  /** Set when the controller has begun to work for the export. */
  startMs?: number;
  leftOut?: string;
  consistency?: DiskExportStatus['consistency'];
  snapshotTime?: string;
  /** The export ends with this report. */
  end?: 'Failed' | 'Cancelled';
  /** Warning: the state needs a person. */
  isProblem?: boolean;
}

export interface Decision {
  actions: readonly Action[];
  /** Written when it differs from the status. Written before the actions. */
  report?: Report | undefined;
  /**
   * Needed: ask the queue, and decide again when there is a slot. Kept: nothing changes. Free: the export has no
   * objects left, or is not the controller's.
   */
  slot: 'needed' | 'kept' | 'free';
  /** The node on which the pod will run, where that is known. */
  node?: string | undefined;
  /** Decide again after this time even when nothing changes. */
  recheckMs?: number | undefined;
}

/** An object to create. The API server fills in the rest. */
export interface NewObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace: string;
    labels: Readonly<Record<string, string>>;
    annotations: Readonly<Record<string, string>>;
    ownerReferences: readonly { apiVersion: string; kind: string; name: string; uid: string }[];
  };
  [field: string]: unknown;
}
