/** The facts about one export on which the controller decides, as plain data. `reconcile` needs nothing else. */

import type { DiskExport } from '../resource/disk-export.ts';
import type {
  ClaimObject,
  JobObject,
  VirtualMachineSnapshotObject,
  VolumeSnapshotObject,
} from '../stores/kubernetes/client/fleet-objects.ts';
import type { KubeObject } from '../stores/kubernetes/client/objects.ts';
import type { VmSnapshotState } from './virtual-machine/read-vm-snapshot.ts';
import type { LeftOutVolume } from './virtual-machine/volumes-of-vm.ts';

/** Objects that the controller has made for the export. */
export interface Children {
  job: JobObject | undefined;
  /** The Job that only aborts uploads, without a volume. */
  cleanupJob: JobObject | undefined;
  /** All pods of both Jobs. */
  pods: readonly WorkerPod[];
  vmSnapshot: VirtualMachineSnapshotObject | undefined;
  /** By the index of the volume. */
  snapshots: ReadonlyMap<number, VolumeSnapshotObject>;
  clones: ReadonlyMap<number, ClaimObject>;
  configMap: KubeObject | undefined;
  /** Why the Job's pod does not start, as events say. */
  startProblem?: PodProblem | undefined;
}

/** A pod of the export's Job. */
export interface WorkerPod {
  name: string;
  uid: string;
  phase: string;
  /** It was deleted, and its kubelet should have ended it by now: its node, or its storage, is likely lost. */
  isLost: boolean;
  nodeName: string | undefined;
  /** Why the pod has not started, or how its container ended; undefined when there is nothing to say. */
  problem: PodProblem | undefined;
}

export interface PodProblem {
  /** One word for conditions: `ImagePullFailed`, `Unschedulable`. */
  reason: string;
  message: string;
}

/** One volume that is to be exported. */
export interface VolumeFacts {
  /** Name of the volume towards the worker: the claim, the VolumeSnapshot, or the VM's volume. */
  key: string;
  /** The claim that has the data, where there is one. */
  claimName: string | undefined;
  claim: ClaimObject | undefined;
  /** The container that may write to the claim, in words. */
  writer: string | undefined;
  /** Node of a pod that uses the claim. */
  node: string | undefined;
  /** A VolumeSnapshot that others made: of the request, or KubeVirt's. Undefined when it is missing, or not needed. */
  given?: VolumeSnapshotObject | undefined;
  /** Mode of the volume whose snapshot `given` is, when its claim is gone. */
  givenMode?: 'Block' | 'Filesystem' | undefined;
  /** The class for a snapshot of the claim. */
  snapshotClass: SnapshotClassChoice | undefined;
  /** Undefined where the export makes no use of the SnapshotMetadata service. */
  metadata?: MetadataFacts | undefined;
}

export type SnapshotClassChoice =
  | { kind: 'chosen'; name: string; driver: string }
  | { kind: 'none'; message: string }
  /** The class that the request names does not exist, is another driver's, or retains its snapshots. */
  | { kind: 'refused'; reason: string; message: string };

/** The SnapshotMetadata service of the volume's CSI driver. */
export type MetadataFacts =
  | {
      kind: 'service';
      driver: string;
      /** HOST:PORT */
      address: string;
      audience: string;
      /** PEM, in base64. */
      caCert: string;
      /** The snapshot, once the driver has it. */
      snapshot: { name: string; handle: string; volume?: string } | undefined;
    }
  /** Why the service is missing: a sentence without its end. */
  | { kind: 'none'; message: string };

/** The source of an export that has no Job yet. */
export interface SourceFacts {
  /** Sorted as the VM has them. */
  volumes: readonly VolumeFacts[];
  /** The source itself is missing, such as the VM. */
  missing?: PodProblem | undefined;
  /** The request asks for something that it can never have. */
  refused?: PodProblem | undefined;
  vm?: VmFacts | undefined;
  /** KubeVirt serves a backup over the network, so that the pod needs no volume. */
  backup?: { uid: string; consistency?: 'Crash' } | undefined;
}

interface VmFacts {
  isRunning: boolean;
  leftOut: readonly LeftOutVolume[];
  /** State of KubeVirt's snapshot; undefined without one. */
  snapshot: VmSnapshotState | undefined;
  /** Text of vm.yaml; undefined where the request wants none. */
  manifest: string | undefined;
}

/** Facts for the end of an export whose snapshot may stay. */
export interface KeptSnapshots {
  /** Kept snapshots of the same tracker, which earlier exports have left. */
  earlier: readonly KubeObject[];
  /** Undefined when the claim is gone: then no later export can need the snapshot. */
  claim: ClaimObject | undefined;
}

export interface Observed {
  nowMs: number;
  request: DiskExport;
  isTerminating: boolean;
  /** Whether an upload is open at the destination: the finalizer says so, or the status of an export that has ended. */
  hasOpenUpload: boolean;
  isNamespaceTerminating: boolean;
  /** Milliseconds since the export was first seen to be cancelled, deleted or beyond its deadline; 0 for others. */
  stoppingMs: number;
  /** A pod that is no worker of the controller serves the source. */
  isServed: boolean;
  hasSlot: boolean;
  children: Children;
  /** Undefined while no decision needs it. */
  source: SourceFacts | undefined;
  /** Present when the export has succeeded and a snapshot of it may stay. */
  kept?: KeptSnapshots | undefined;
}
