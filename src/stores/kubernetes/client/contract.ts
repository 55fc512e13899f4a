/**
 * The API server as `cache`, `leases` and `store` use it: objects as they are in JSON, one request a call, typed failures.
 *
 * Calls: createApiAccess (once) -> createKubeApi -> get, list, create, replace, patch, remove at any time; watch after a list, from the
 * version of that list, and again from the last event. A reflector does list and watch for a whole kind.
 *
 * Failures: every call throws a DiskliftError. `StoreUnavailable` (no answer, an unusable answer, 408, 429, 5xx) and `StoreRefused` (every
 * other refusal); `Cancelled` when `signal` was aborted. All of them are retryable except a refusal of kind `Invalid`. No call retries.
 */

import type { DiskliftError } from '../../../common/errors.ts';

export interface ObjectMeta {
  name: string;
  namespace: string;
  uid: string;
  /** A decimal number that grows with each change of the object; export-object compares two of them. Otherwise opaque. */
  resourceVersion: string;
  generation?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  /** RFC 3339; set when the object was deleted and only finalizers keep it. */
  deletionTimestamp?: string;
}

export interface KubeObject {
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
}

interface ContainerState {
  name: string;
  state?: { terminated?: { exitCode: number } };
}

export interface PodObject extends KubeObject {
  spec: {
    /** Of its containers: Always, OnFailure, Never. */
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
interface DataObject extends KubeObject {
  data?: Record<string, string>;
  binaryData?: Record<string, string>;
}

/** Of core/v1. */
export interface EventObject extends KubeObject {
  involvedObject?: { apiVersion: string; kind: string } & Pick<ObjectMeta, 'name' | 'namespace' | 'uid' | 'resourceVersion'>;
  type?: string;
  reason?: string;
  message?: string;
  count?: number;
  /** RFC 3339, as `lastTimestamp`. */
  firstTimestamp?: string;
  lastTimestamp?: string;
  source?: { component: string; host: string };
  reportingComponent?: string;
  reportingInstance?: string;
}

export interface ObjectName {
  namespace: string;
  name: string;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** How long the answer may take. Default 15 s. */
  limitMs?: number;
}

interface ListOptions extends CallOptions {
  /** As kubectl takes it; the default is all. */
  labelSelector?: string;
}

/** What a merge patch does to objects (RFC 7386): null removes a field, lists are replaced whole. */
export type MergePatch = Readonly<Record<string, unknown>>;

interface PatchOptions extends CallOptions {
  patch: MergePatch;
  /** The default is the object without its status. */
  subresource?: 'status' | 'scale';
}

/** A watch has no time limit of its own: the server or `signal` ends it. */
interface WatchOptions {
  resourceVersion: string;
  /** The server ends the watch after this time. */
  timeoutSeconds: number;
  signal: AbortSignal;
  /** Called when the server has accepted the watch. */
  onOpen?(): void;
}

/** One line of a watch. The `object` of an ERROR is a Status; that of a BOOKMARK has a resourceVersion and little else. */
export interface WatchEvent {
  type: string;
  object: unknown;
}

interface ObjectList<T> {
  /** Of the whole list, for a watch that begins where it ends. */
  resourceVersion: string;
  items: T[];
}

/** A kind of object in the API. All kinds here have namespaces. */
export interface ResourceDescription {
  /** '' for the core group. */
  group: string;
  version: string;
  /** As manifests have it: `DiskExport`. */
  kind: string;
  /** As paths and RBAC have it: `diskexports`. */
  plural: string;
}

/** In place of a namespace: one cluster-wide request for the objects of all namespaces. A ClusterRole must permit it. */
export const ALL_NAMESPACES = Symbol('all namespaces');

export type NamespaceScope = string | typeof ALL_NAMESPACES;

/** The scope as a message names it. */
export function namespaceText(namespace: NamespaceScope): string {
  return namespace === ALL_NAMESPACES ? 'all namespaces' : namespace;
}

/**
 * All methods throw DiskliftError with the code `StoreUnavailable` (no answer, 429, 5xx), `StoreRefused` (any other refusal) or
 * `Cancelled`. {@link apiFailureOf} gives the server's answer. No method retries.
 */
export interface KubeResource<T extends KubeObject> {
  readonly description: ResourceDescription;
  /** Undefined when the object does not exist. */
  get(target: ObjectName, options?: CallOptions): Promise<T | undefined>;
  /** In pages of 500. */
  list(namespace: NamespaceScope, options?: ListOptions): Promise<ObjectList<T>>;
  /** Ends when the server ends it. The caller judges the events, also those of type ERROR. */
  watch(namespace: NamespaceScope, options: WatchOptions): AsyncIterable<WatchEvent>;
  /** @param object with metadata.namespace and metadata.name @throws DiskliftError of a failure `AlreadyExists` */
  create(object: Unsaved<T>, options?: CallOptions): Promise<T>;
  /** @throws DiskliftError of a failure `Conflict` when metadata.resourceVersion is not that of the object any more */
  replace(object: T, options?: CallOptions): Promise<T>;
  /** With metadata.resourceVersion in the patch it conflicts as `replace` does. */
  patch(target: ObjectName, options: PatchOptions): Promise<T>;
  /** @returns whether there was one. @throws DiskliftError of a failure `Conflict` when the one there has another UID or resourceVersion */
  remove(target: ObjectName, options?: CallOptions & { uid?: string; resourceVersion?: string }): Promise<boolean>;
}

/** An object to create: fields that the server fills in may be missing. */
export type Unsaved<T extends KubeObject> = Omit<T, 'metadata'> & {
  metadata: ObjectName & Partial<ObjectMeta> & { ownerReferences?: OwnerReference[] };
};

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
}

/** The user of a TokenReview, in the fields that a SubjectAccessReview takes. */
export interface ReviewedUser {
  username: string;
  uid?: string | undefined;
  groups?: string[] | undefined;
  extra?: Record<string, string[]> | undefined;
}

/** An action in the fields of a SubjectAccessReview. A path is a nonResourceURL of RBAC. */
export type ReviewedAction =
  | { nonResourceAttributes: { verb: string; path: string } }
  | { resourceAttributes: { verb: string; group: string; resource: string; namespace: string } };

/** Cluster-wide: they need a ClusterRole such as system:auth-delegator. Failures as of {@link KubeResource}. */
export interface ApiReviews {
  /** Undefined when the token belongs to no user, or has expired. */
  authenticate(token: string, options?: CallOptions): Promise<ReviewedUser | undefined>;
  permits(user: ReviewedUser, action: ReviewedAction, options?: CallOptions): Promise<boolean>;
}

export interface KubeApi {
  exports: KubeResource<ExportObject>;
  leases: KubeResource<LeaseObject>;
  events: KubeResource<EventObject>;
  pods: KubeResource<PodObject>;
  secrets: KubeResource<DataObject>;
  configMaps: KubeResource<DataObject>;
  namespaces: {
    /** Undefined when there is none. @throws DiskliftError as {@link KubeResource} has it */
    get(name: string, options?: CallOptions): Promise<NamespaceObject | undefined>;
  };
  reviews: ApiReviews;
  discovery: {
    /** `HOST:PORT` at which the API server says that it can be reached. @throws DiskliftError as {@link KubeResource} has it */
    serverAddresses(options?: CallOptions): Promise<readonly string[]>;
  };
}

/** The workloads of a release, for the program that stops them. */
export interface WorkloadApi {
  deployments: Pick<KubeResource<KubeObject>, 'patch'>;
  jobs: Pick<KubeResource<KubeObject>, 'patch' | 'list'>;
  cronJobs: Pick<KubeResource<KubeObject>, 'patch'>;
  pods: Pick<KubeResource<PodObject>, 'list'>;
}

/** A Namespace of core/v1: the fields that are used. */
export interface NamespaceObject {
  metadata: Pick<ObjectMeta, 'name' | 'deletionTimestamp'>;
}

export interface ApiFailure {
  /** Expired: the API server has dropped the version (410). Throttled: 429. Unavailable: 5xx, or no answer; the request may have been carried out. */
  kind:
    | 'NotFound'
    | 'AlreadyExists'
    | 'Conflict'
    | 'Expired'
    | 'Unauthorized'
    | 'Forbidden'
    | 'Invalid'
    | 'Throttled'
    | 'TooLarge'
    | 'Unavailable';
  /** Of the answer, if there was one. */
  status?: number | undefined;
}

/** Facts about one request, for counters. */
export interface ApiRequestFacts {
  /** As RBAC has it: get, list, watch, create, update, patch, delete. */
  verb: string;
  /** As RBAC has it: `diskexports`, `diskexports/status`. */
  resource: string;
}

/** A copy of all objects of one kind, in one namespace or in all, as the API server last sent them. */
export interface Reflector<T extends KubeObject = ExportObject> {
  /** Undefined when there is no such object. @param key NAMESPACE/NAME */
  get(key: string): T | undefined;
  /** The keys of all objects. */
  keys(): Iterable<string>;
  /** When the API server last answered, in milliseconds since 1970; undefined before the first time. */
  lastSuccessMs(): number | undefined;
  /** Milliseconds since then, by a monotonic clock. */
  silenceMs(): number | undefined;
  /** Whether the first list is complete. */
  readonly hasSynced: boolean;
  /** The failure of the last request; undefined while the API server answers. */
  readonly problem: DiskliftError | undefined;
}
