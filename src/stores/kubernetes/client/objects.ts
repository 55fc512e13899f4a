/** Objects of the API server as they are in JSON, with the fields that disklift uses. */

/** Metadata of an object of any kind. An object in a namespace has an {@link ObjectMeta}. */
interface CommonMeta {
  name: string;
  /** Absent in the objects of cluster-scoped kinds. */
  namespace?: string;
  uid: string;
  /**
   * A decimal number that grows with each change of the object; export-object compares two of them. Otherwise opaque.
   */
  resourceVersion: string;
  generation?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
  /** RFC 3339; the API server sets it. */
  creationTimestamp?: string;
  /** RFC 3339; set when the object was deleted and only finalizers keep it. */
  deletionTimestamp?: string;
}

export interface ObjectMeta extends CommonMeta {
  namespace: string;
}

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  /** Whether the owner is the one that manages the object. */
  controller?: boolean;
}

/** An object of any kind. */
export interface AnyObject {
  metadata: CommonMeta;
}

/** An object in a namespace. */
export interface KubeObject extends AnyObject {
  metadata: ObjectMeta;
}

/** A DiskExport as the API server sends it. Its spec and status are not validated. */
export interface ExportObject extends KubeObject {
  spec?: unknown;
  status?: unknown;
}

export interface LeaseObject extends KubeObject {
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    /** RFC 3339 with microseconds, as `renewTime`. */
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

export interface VolumeUse {
  name: string;
  persistentVolumeClaim?: { claimName: string; readOnly?: boolean };
  /** Its claim is named POD-VOLUME. */
  ephemeral?: object;
}

export interface ContainerSpec {
  name: string;
  restartPolicy?: string;
  volumeMounts?: { name: string; readOnly?: boolean }[];
  volumeDevices?: { name: string; devicePath: string }[];
  command?: string[];
  args?: string[];
  /** `value` is absent for one that comes from elsewhere. */
  env?: { name: string; value?: string }[];
}

interface ContainerState {
  name: string;
  state?: { terminated?: { exitCode: number } };
}

export interface PodObject extends KubeObject {
  spec: {
    /** Policy of its containers: Always, OnFailure or Never. */
    restartPolicy?: string;
    volumes?: VolumeUse[];
    containers: ContainerSpec[];
    initContainers?: ContainerSpec[];
    ephemeralContainers?: ContainerSpec[];
  };
  status?: {
    /** Succeeded and Failed: all containers have ended for good. */
    phase?: string;
    containerStatuses?: ContainerState[];
    initContainerStatuses?: ContainerState[];
    ephemeralContainerStatuses?: ContainerState[];
  };
}

/** A Secret's entries are base64 in `data`. A ConfigMap's are text there, and base64 in `binaryData`. */
export interface DataObject extends KubeObject {
  data?: Record<string, string>;
  binaryData?: Record<string, string>;
}

/** An Event of core/v1. */
export interface EventObject extends KubeObject {
  involvedObject?: { apiVersion: string; kind: string } & Pick<ObjectMeta, 'name' | 'namespace' | 'uid' | 'resourceVersion'>;
  type?: string;
  reason?: string;
  message?: string;
  count?: number;
  /** RFC 3339, as `lastTimestamp`. */
  firstTimestamp?: string;
  lastTimestamp?: string;
  /** RFC 3339 with microseconds: in place of the others in events of newer components. */
  eventTime?: string | null;
  source?: { component: string; host: string };
  reportingComponent?: string;
  reportingInstance?: string;
}

/** Its deletionTimestamp is set while the namespace is being emptied. */
export type NamespaceObject = AnyObject;
