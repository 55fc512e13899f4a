/** The objects that the controller reads and writes, in JSON: only the fields that it uses. */

import type { AnyObject, KubeObject, ObjectMeta, PodObject } from './objects.ts';

/** A condition of metav1. Jobs, claims and pods have others of these fields each. */
interface ObjectCondition {
  type: string;
  /** True, False or Unknown. */
  status: string;
  reason?: string;
  message?: string;
  /** RFC 3339 */
  lastTransitionTime?: string;
}

/** A JSON object whose fields another program defines. */
type LooseObject = Readonly<Record<string, unknown>>;

/** An object in the namespace of the one that names it. */
interface LocalReference {
  /** '' or absent for the core group. */
  apiGroup?: string;
  kind: string;
  name: string;
}

export interface ClaimObject extends KubeObject {
  spec: {
    accessModes?: string[];
    /** Absent: Filesystem. */
    volumeMode?: string;
    /** '' is a claim without a class. Absent until the API server sets the default class. */
    storageClassName?: string;
    /** Absent until the claim is bound. */
    volumeName?: string;
    resources?: { requests?: { storage?: string } };
    dataSource?: LocalReference;
    dataSourceRef?: LocalReference & { namespace?: string };
  };
  status?: {
    /** Pending, Bound or Lost. */
    phase?: string;
    capacity?: { storage?: string };
    conditions?: ObjectCondition[];
  };
}

export interface JobObject extends KubeObject {
  spec: {
    suspend?: boolean;
    backoffLimit?: number;
    activeDeadlineSeconds?: number;
    ttlSecondsAfterFinished?: number;
    podReplacementPolicy?: string;
    podFailurePolicy?: LooseObject;
    /** A PodTemplateSpec. */
    template: { metadata?: Partial<Pick<ObjectMeta, 'labels' | 'annotations'>>; spec: LooseObject };
  };
  status?: {
    active?: number;
    ready?: number;
    succeeded?: number;
    failed?: number;
    terminating?: number;
    /** RFC 3339, as `completionTime`. */
    startTime?: string;
    completionTime?: string;
    /** Complete and Failed: the Job has ended, and no pod is left. */
    conditions?: ObjectCondition[];
  };
}

interface ContainerStatus {
  name: string;
  restartCount?: number;
  state?: {
    running?: { startedAt?: string };
    waiting?: { reason?: string; message?: string };
    terminated?: { exitCode: number; reason?: string; message?: string; signal?: number };
  };
}

/** A pod that a Job of the controller has created, or that mounts a claim. */
export interface FleetPodObject extends KubeObject {
  spec: PodObject['spec'] & { nodeName?: string };
  status?: {
    /** Pending, Running, Succeeded, Failed or Unknown. */
    phase?: string;
    /** Evicted, NodeLost, ... */
    reason?: string;
    message?: string;
    startTime?: string;
    /** PodScheduled with the reason Unschedulable says why no node takes the pod. */
    conditions?: ObjectCondition[];
    containerStatuses?: ContainerStatus[];
    initContainerStatuses?: ContainerStatus[];
    ephemeralContainerStatuses?: ContainerStatus[];
  };
}

export interface ServiceAccountObject extends KubeObject {
  automountServiceAccountToken?: boolean;
}

export interface RoleBindingObject extends KubeObject {
  roleRef: { apiGroup: string; kind: string; name: string };
  subjects?: { kind: string; name: string; namespace?: string }[];
}

/** The annotation `storageclass.kubernetes.io/is-default-class` marks the default class. */
export interface StorageClassObject extends AnyObject {
  provisioner: string;
  /** Immediate or WaitForFirstConsumer; absent: Immediate. */
  volumeBindingMode?: string;
}

/** The annotation `snapshot.storage.kubernetes.io/is-default-class` marks the default class of a driver. */
export interface VolumeSnapshotClassObject extends AnyObject {
  driver: string;
  /** Delete or Retain. */
  deletionPolicy: string;
}

export interface VolumeSnapshotObject extends KubeObject {
  spec: {
    source: { persistentVolumeClaimName?: string; volumeSnapshotContentName?: string };
    volumeSnapshotClassName?: string;
  };
  status?: {
    readyToUse?: boolean;
    /** A quantity; absent when the driver does not report it. */
    restoreSize?: string;
    /** RFC 3339: the moment that the snapshot shows. */
    creationTime?: string;
    boundVolumeSnapshotContentName?: string;
    error?: { message?: string; time?: string };
  };
}

/** The snapshot of the storage that a VolumeSnapshot stands for. */
export interface VolumeSnapshotContentObject extends AnyObject {
  spec: {
    /** Mode of the claim whose snapshot it is: Block or Filesystem. */
    sourceVolumeMode?: string;
    driver?: string;
    /** The driver's own name of the volume. Absent where the snapshot was not made from a claim of the cluster. */
    source?: { volumeHandle?: string };
  };
  status?: {
    /** The driver's own name of the snapshot. */
    snapshotHandle?: string;
  };
}

/** Named like the CSI driver whose service it describes. */
export interface SnapshotMetadataServiceObject extends AnyObject {
  spec: {
    /** HOST:PORT */
    address: string;
    audience: string;
    /** PEM, in base64. */
    caCert?: string;
  };
}

export interface VirtualMachineObject extends KubeObject {
  spec: {
    running?: boolean;
    runStrategy?: string;
    template?: { metadata?: LooseObject; spec?: { volumes?: LooseObject[]; domain?: LooseObject } & LooseObject };
    dataVolumeTemplates?: LooseObject[];
  } & LooseObject;
  status?: {
    created?: boolean;
    ready?: boolean;
    printableStatus?: string;
    /** Name of the VirtualMachineSnapshot that is being taken. */
    snapshotInProgress?: string;
  } & LooseObject;
}

export interface VirtualMachineInstanceObject extends KubeObject {
  spec: { volumes?: LooseObject[] } & LooseObject;
  status?: { phase?: string; conditions?: ObjectCondition[]; fsFreezeStatus?: string } & LooseObject;
}

export interface VirtualMachineBackupObject extends KubeObject {
  spec: LooseObject;
  status?: LooseObject;
}

export interface VirtualMachineBackupTrackerObject extends KubeObject {
  spec: LooseObject;
  status?: LooseObject;
}

export interface VirtualMachineSnapshotObject extends KubeObject {
  spec: LooseObject;
  status?: LooseObject;
}

export interface VirtualMachineSnapshotContentObject extends KubeObject {
  spec: LooseObject;
  status?: LooseObject;
}

/** Its spec and status are not validated. */
export interface ScheduleObject extends KubeObject {
  spec?: unknown;
  status?: unknown;
}
