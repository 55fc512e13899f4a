/**
 * The API server as `cache`, `leases` and `store` use it: objects as they are in JSON, one request a call, typed
 * failures.
 *
 * Calls: openApiAccess (once) -> createKubeApi -> get, list, create, replace, patch, remove at any time; watch after
 * a list, from the version of that list, and again from the last event. A reflector does list and watch for a whole
 * kind.
 *
 * Failures: every call throws a DiskliftError. `StoreUnavailable` (no answer, an unusable answer, 408, 429, 5xx) and
 * `StoreRefused` (every other refusal); `Cancelled` when `signal` was aborted. All of them are retryable except a
 * refusal of kind `Invalid`. No call retries.
 */

import type { DiskliftError } from '../../../common/errors.ts';
import type { VirtualMachineBackupObject, VirtualMachineBackupTrackerObject, VirtualMachineObject } from './fleet-objects.ts';
import type {
  AnyObject,
  DataObject,
  EventObject,
  ExportObject,
  KubeObject,
  LeaseObject,
  NamespaceObject,
  ObjectMeta,
  PodObject,
} from './objects.ts';

export interface ObjectName {
  /** '' for an object of a cluster-scoped kind. */
  namespace: string;
  name: string;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** How long the answer may take. Default 15 s. */
  limitMs?: number;
}

interface ListOptions<T> extends CallOptions {
  /** As kubectl takes it; the default is all. */
  labelSelector?: string;
  /** As kubectl takes it; each kind supports few fields. The default is all. */
  fieldSelector?: string;
  /**
   * Replaces each object as soon as its page is there, so that a long list is never whole in memory. Objects may be
   * malformed. Must not throw.
   */
  prepare?(object: T): T;
}

/** A merge patch (RFC 7386): null removes a field, and a list replaces the whole list. */
export type MergePatch = Readonly<Record<string, unknown>>;

interface PatchOptions extends CallOptions {
  patch: MergePatch;
  /** The default is the object without its status. */
  subresource?: 'status' | 'scale';
}

interface RemoveOptions extends CallOptions {
  uid?: string;
  resourceVersion?: string;
  /** Foreground: the object stays until the garbage collector has deleted its dependents. Default Background. */
  propagationPolicy?: 'Background' | 'Foreground';
}

/** A watch has no time limit of its own: the server or `signal` ends it. */
interface WatchOptions {
  resourceVersion: string;
  /** The server ends the watch after this time. */
  timeoutSeconds: number;
  /** An object whose labels cease to match arrives as DELETED, one whose labels begin to match as ADDED. */
  labelSelector?: string | undefined;
  signal: AbortSignal;
  /** Called when the server has accepted the watch. */
  onOpen?(): void;
}

/** One line of a watch. The `object` of an ERROR is a Status. A BOOKMARK has a resourceVersion and little else. */
export interface WatchEvent {
  type: string;
  object: unknown;
}

interface ObjectList<T> {
  /** Version of the whole list, at which a watch can begin. */
  resourceVersion: string;
  items: T[];
}

/** A kind of object in the API. */
export interface ResourceDescription {
  /** '' for the core group. */
  group: string;
  version: string;
  /** As manifests have it: `DiskExport`. */
  kind: string;
  /** As paths and RBAC have it: `diskexports`. */
  plural: string;
  /** Whether its objects belong to no namespace, such as StorageClasses. Lists and watches name no namespace then. */
  isClusterScoped?: boolean;
}

/**
 * In place of a namespace: one cluster-wide request for the objects of all namespaces. A ClusterRole must permit it.
 */
export const ALL_NAMESPACES = Symbol('all namespaces');

export type NamespaceScope = string | typeof ALL_NAMESPACES;

/** @param namespaces none: all */
export function scopesOf(namespaces: readonly string[]): readonly NamespaceScope[] {
  return namespaces.length === 0 ? [ALL_NAMESPACES] : namespaces;
}

/** @returns the namespace of NAMESPACE/NAME; '' for the key of a cluster-scoped object */
export function namespaceOf(key: string): string {
  return key.slice(0, Math.max(0, key.indexOf('/')));
}

/** The scope as a message names it. */
export function namespaceText(namespace: NamespaceScope): string {
  return namespace === ALL_NAMESPACES ? 'all namespaces' : namespace;
}

/**
 * All methods throw DiskliftError with the code `StoreUnavailable` (no answer, 429, 5xx), `StoreRefused` (any other
 * refusal) or `Cancelled`. {@link apiFailureOf} gives the server's answer. No method retries.
 */
export interface KubeResource<T extends AnyObject> {
  readonly description: ResourceDescription;
  /** Undefined when the object does not exist. @throws DiskliftError as above */
  get(target: ObjectName, options?: CallOptions): Promise<T | undefined>;
  /**
   * Reads the list in pages of 500.
   * @throws DiskliftError as above; of a failure `NotFound` when the kind's CRD is not installed
   */
  list(namespace: NamespaceScope, options?: ListOptions<T>): Promise<ObjectList<T>>;
  /**
   * Ends when the server ends it. The caller judges the events, also those of type ERROR.
   * @throws DiskliftError as above
   */
  watch(namespace: NamespaceScope, options: WatchOptions): AsyncIterable<WatchEvent>;
  /**
   * Adds apiVersion and kind to the object.
   * @param object with metadata.namespace and metadata.name
   * @throws DiskliftError of a failure `AlreadyExists` or `QuotaExceeded`
   */
  create(object: Unsaved<T>, options?: CallOptions): Promise<T>;
  /**
   * Adds apiVersion and kind to the object.
   * @throws DiskliftError of a failure `Conflict` when the object has another metadata.resourceVersion by now
   */
  replace(object: T, options?: CallOptions): Promise<T>;
  /**
   * @throws DiskliftError of a failure `Conflict` when the patch has another metadata.resourceVersion than the object
   */
  patch(target: ObjectName, options: PatchOptions): Promise<T>;
  /**
   * @returns whether there was one.
   * @throws DiskliftError of a failure `Conflict` when the one there has another UID or resourceVersion
   */
  remove(target: ObjectName, options?: RemoveOptions): Promise<boolean>;
}

/** An object to create: fields that the server fills in may be missing. */
export type Unsaved<T extends AnyObject> = Omit<T, 'metadata'> & {
  metadata: ObjectName & Partial<ObjectMeta>;
};

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
  | { resourceAttributes: { verb: string; group: string; resource: string; namespace?: string } };

/** Cluster-wide: they need a ClusterRole such as system:auth-delegator. Failures as of {@link KubeResource}. */
export interface ApiReviews {
  /**
   * Undefined when the token belongs to no user, or has expired.
   * @throws DiskliftError as {@link KubeResource} has it
   */
  authenticate(token: string, options?: CallOptions): Promise<ReviewedUser | undefined>;
  /** Whether the user may do that. @throws DiskliftError as {@link KubeResource} has it */
  permits(user: ReviewedUser, action: ReviewedAction, options?: CallOptions): Promise<boolean>;
}

export interface KubeApi {
  exports: KubeResource<ExportObject>;
  leases: KubeResource<LeaseObject>;
  events: KubeResource<EventObject>;
  pods: KubeResource<PodObject>;
  secrets: KubeResource<DataObject>;
  configMaps: KubeResource<DataObject>;
  /** For exports of backups, as the next two. */
  virtualMachineBackups: Pick<KubeResource<VirtualMachineBackupObject>, 'get'>;
  virtualMachineBackupTrackers: Pick<KubeResource<VirtualMachineBackupTrackerObject>, 'get'>;
  virtualMachines: Pick<KubeResource<VirtualMachineObject>, 'get'>;
  namespaces: {
    /** Undefined when the namespace does not exist. @throws DiskliftError as {@link KubeResource} has it */
    get(name: string, options?: CallOptions): Promise<NamespaceObject | undefined>;
  };
  reviews: ApiReviews;
  discovery: {
    /**
     * `HOST:PORT` at which the API server says that it can be reached.
     * @throws DiskliftError as {@link KubeResource} has it
     */
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

export interface ApiFailure {
  /**
   * Expired: the API server has dropped the version (410). QuotaExceeded: a ResourceQuota of the namespace forbids the
   * object (403). Throttled: 429. Unavailable: 5xx, or no answer; the request may have been carried out.
   */
  kind:
    | 'NotFound'
    | 'AlreadyExists'
    | 'Conflict'
    | 'Expired'
    | 'Unauthorized'
    | 'Forbidden'
    | 'QuotaExceeded'
    | 'Invalid'
    | 'Throttled'
    | 'TooLarge'
    | 'Unavailable';
  /** Status of the answer; undefined without an answer. */
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
export interface Reflector<T extends AnyObject = ExportObject> {
  /** Undefined when there is no such object. @param key NAMESPACE/NAME; NAME for a cluster-scoped kind */
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
