/**
 * An API server in memory, at the level of {@link FleetApi}: versions and their conflicts, UIDs as preconditions,
 * finalizers, quotas, terminating namespaces, watches with selectors. It answers failures as the client does.
 */

import type { Clock } from '../../../src/common/clock.ts';
import { timestamp } from '../../../src/common/clock.ts';
import { isFields, schemaErrors } from '../../../src/resource/schema.ts';
import { STATUS_SCHEMA } from '../../../src/resource/status-schema.ts';
import { refusedError } from '../../../src/stores/kubernetes/client/api-failure.ts';
import type {
  CallOptions,
  KubeResource,
  MergePatch,
  ObjectName,
  ResourceDescription,
} from '../../../src/stores/kubernetes/client/contract.ts';
import type { FleetApi } from '../../../src/stores/kubernetes/client/fleet-api.ts';
import type { AnyObject, ObjectMeta } from '../../../src/stores/kubernetes/client/objects.ts';
import { RESOURCES } from '../../../src/stores/kubernetes/client/resources.ts';
import { matches, mergePatched, openWatch, type StoredEvent } from './memory-watch.ts';

export type Resource = keyof typeof RESOURCES;

/** An object of any kind; each program of the test reads the fields of its own kinds. */
export interface StoredObject {
  metadata: ObjectMeta;
  // biome-ignore lint/suspicious/noExplicitAny: the fields of twenty kinds; types would say the code once more
  [field: string]: any;
}

export interface ApiCall {
  verb: 'get' | 'list' | 'watch' | 'create' | 'replace' | 'patch' | 'delete';
  resource: Resource;
  name: string;
  options: CallOptions;
}

/** Stands between a client and the server. Without a call of `carryOut` the request never arrives. */
export type Intercept = <T>(call: ApiCall, carryOut: () => T) => Promise<T>;

export interface MemoryFleet {
  client(intercept?: Intercept): FleetApi;
  /** The objects of a kind. Callers do not change them. */
  all(resource: Resource): StoredObject[];
  find(resource: Resource, target: { namespace?: string; name: string }): StoredObject | undefined;
  /** Requests of programs that never fail. */
  put(resource: Resource, object: object): StoredObject;
  patch(resource: Resource, object: StoredObject, patch: MergePatch): void;
  remove(resource: Resource, object: StoredObject): void;
  /** Names of all objects, as RESOURCE NAMESPACE/NAME. */
  names(): string[];
  /** Successful creates so far, as RESOURCE NAMESPACE/NAME. */
  readonly created: string[];
  /** Returns a message for a create that a quota forbids. */
  quota: (resource: Resource, object: StoredObject) => string | undefined;
  /** Kinds whose CRD is not installed. */
  readonly absent: Set<Resource>;
  /** Watches receive an event of the kind only when this returns true. */
  isDelivered: (resource: Resource) => boolean;
  /** Lets held events go. */
  deliver(): void;
}

const KINDS = Object.keys(RESOURCES) as Resource[];

export function createMemoryFleet(clock: Clock): MemoryFleet {
  return new Memory(clock);
}

class Memory implements MemoryFleet {
  readonly created: string[] = [];
  readonly absent = new Set<Resource>();
  quota: MemoryFleet['quota'] = () => undefined;
  isDelivered: MemoryFleet['isDelivered'] = () => true;
  private readonly clock: Clock;
  private readonly objects = new Map<Resource, Map<string, StoredObject>>(KINDS.map((kind) => [kind, new Map()]));
  private readonly events = new Map<Resource, StoredEvent[]>(KINDS.map((kind) => [kind, []]));
  private readonly wakes = new Set<() => void>();
  private version = 1000;
  private uids = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  client(intercept: Intercept = async (_call, carryOut) => carryOut()): FleetApi {
    return Object.fromEntries(KINDS.map((kind) => [kind, this.resource(kind, intercept)])) as unknown as FleetApi;
  }

  all(resource: Resource): StoredObject[] {
    return [...this.kind(resource).values()];
  }

  find(resource: Resource, target: { namespace?: string; name: string }): StoredObject | undefined {
    return this.kind(resource).get(keyOf(resource, target));
  }

  put(resource: Resource, object: object): StoredObject {
    return this.create(resource, object as StoredObject);
  }

  patch(resource: Resource, { metadata }: StoredObject, patch: MergePatch): void {
    const { status, ...rest } = patch;
    const isThere = () => this.find(resource, metadata)?.metadata.uid === metadata.uid;
    if (status !== undefined && isThere()) this.change(resource, metadata, { status }, 'status');
    if (Object.keys(rest).length > 0 && isThere()) this.change(resource, metadata, rest);
  }

  remove(resource: Resource, { metadata }: StoredObject): void {
    if (this.find(resource, metadata)?.metadata.uid === metadata.uid) this.delete(resource, metadata, {});
  }

  names(): string[] {
    return KINDS.flatMap((kind) => [...this.kind(kind).keys()].map((key) => `${kind} ${key}`)).toSorted();
  }

  deliver(): void {
    for (const wake of this.wakes) wake();
  }

  private kind(resource: Resource): Map<string, StoredObject> {
    return this.objects.get(resource) as Map<string, StoredObject>;
  }

  private resource(kind: Resource, intercept: Intercept): KubeResource<AnyObject> {
    const call = async <T>(verb: ApiCall['verb'], name: string, options: CallOptions, run: () => T): Promise<T> => {
      const answer = await intercept({ verb, resource: kind, name, options }, () => {
        if (this.absent.has(kind)) throw refused(404, `${verb} ${kind}`, 'NotFound', '404 page not found');
        return run();
      });
      return copyOf(answer);
    };
    const text = ({ namespace, name }: { namespace?: string; name: string }) => `${namespace ?? ''}/${name}`;
    return {
      description: RESOURCES[kind],
      get: (target, options = {}) => orUndefined(call('get', text(target), options, () => this.found(kind, target))),
      list: (scope, options = {}) => {
        const namespace = typeof scope === 'string' ? scope : undefined;
        return call('list', namespace ?? '', options, () => ({
          resourceVersion: String(this.version),
          items: this.all(kind).filter((object) => matches(object, { namespace, ...options })),
        }));
      },
      watch: (scope, options) => {
        const opened = async () => {
          await call('watch', '', { signal: options.signal }, () => true);
          options.onOpen?.();
        };
        return openWatch({
          ...options,
          opened,
          namespace: typeof scope === 'string' ? scope : undefined,
          events: () => (this.isDelivered(kind) ? (this.events.get(kind) as StoredEvent[]) : []),
          wakes: this.wakes,
          clock: this.clock,
        });
      },
      create: (object, options = {}) =>
        call('create', text(object.metadata), options, () => this.create(kind, object as unknown as StoredObject)),
      replace: (object, options = {}) =>
        call('replace', text(object.metadata), options, () => this.change(kind, object.metadata, object as unknown as MergePatch)),
      patch: (target, { patch, subresource, ...options }) =>
        call('patch', text(target), options, () => this.change(kind, target, patch, subresource)),
      remove: (target, options = {}) =>
        orFalse(call('delete', text(target), options, () => this.delete(kind, target, options))) as Promise<boolean>,
    };
  }

  private found(kind: Resource, target: { namespace?: string; name: string }): StoredObject {
    const object = this.kind(kind).get(keyOf(kind, target));
    if (object === undefined) throw refused(404, `get ${kind} ${target.name}`, 'NotFound', `${kind} "${target.name}" not found`);
    return object;
  }

  private create(kind: Resource, given: StoredObject): StoredObject {
    const what = `create ${kind} ${given.metadata.name}`;
    const key = keyOf(kind, given.metadata);
    if (!/^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/.test(given.metadata.name)) throw refused(422, what, 'Invalid', 'metadata.name is invalid');
    const { namespace } = given.metadata;
    if (!isClusterScoped(kind)) {
      const owner = this.kind('namespaces').get(namespace);
      if (owner === undefined) throw refused(404, what, 'NotFound', `namespaces "${namespace}" not found`);
      if (owner.metadata.deletionTimestamp !== undefined)
        throw refused(403, what, 'Forbidden', `unable to create new content in namespace ${namespace} because it is being terminated`);
    }
    if (this.kind(kind).has(key)) throw refused(409, what, 'AlreadyExists', `${kind} "${given.metadata.name}" already exists`);
    const exceeded = this.quota(kind, given);
    if (exceeded !== undefined)
      throw refused(403, what, 'Forbidden', `${kind} "${given.metadata.name}" is forbidden: exceeded quota: ${exceeded}`);
    this.uids += 1;
    const { status: _, ...object } = copyOf(given);
    const uid = `0000${String(this.uids).padStart(4, '0')}`;
    const isKept = kind !== 'exports' && kind !== 'jobs' && given.status !== undefined;
    const stored = {
      ...object,
      ...(isKept ? { status: given.status } : {}),
      metadata: { ...object.metadata, uid, generation: 1, resourceVersion: '', creationTimestamp: timestamp(this.clock.nowMs()) },
    };
    this.created.push(`${kind} ${key}`);
    return this.store(kind, 'ADDED', stored);
  }

  private change(kind: Resource, target: ObjectName | AnyObject['metadata'], patch: MergePatch, subresource?: string): StoredObject {
    const what = `patch ${kind} ${target.name}`;
    const before = this.found(kind, target);
    const asked: Partial<ObjectMeta> = isFields(patch.metadata) ? patch.metadata : {};
    for (const field of ['uid', 'resourceVersion'] as const)
      if (asked[field] !== undefined && asked[field] !== before.metadata[field])
        throw refused(409, what, 'Conflict', `the object has been modified: its ${field} is ${before.metadata[field]}`);
    const { metadata, ...rest } = patch;
    const wanted = subresource === undefined ? rest : { [subresource]: rest[subresource] };
    const { status } = before;
    const after = mergePatched(before, subresource === undefined ? { ...wanted, metadata } : wanted) as StoredObject;
    after.metadata = { ...after.metadata };
    if (subresource === undefined) after.status = status;
    const added = (after.metadata.finalizers ?? []).some((each) => !before.metadata.finalizers?.includes(each));
    if (added && before.metadata.deletionTimestamp !== undefined)
      throw refused(422, what, 'Invalid', 'no new finalizers can be added if the object is being deleted');
    if (kind === 'exports' && isFields(after.status)) {
      const [wrong] = schemaErrors(after.status, STATUS_SCHEMA, 'status');
      if (wrong !== undefined) throw refused(422, what, 'Invalid', `DiskExport is invalid: ${JSON.stringify(wrong)}`);
    }
    if (JSON.stringify(after) === JSON.stringify(before)) return before;
    if (JSON.stringify(after.spec) !== JSON.stringify(before.spec)) after.metadata.generation = (before.metadata.generation ?? 0) + 1;
    if (after.metadata.deletionTimestamp !== undefined && (after.metadata.finalizers ?? []).length === 0) return this.drop(kind, after);
    return this.store(kind, 'MODIFIED', after);
  }

  private delete(
    kind: Resource,
    target: { namespace?: string; name: string },
    { uid, propagationPolicy }: { uid?: string; propagationPolicy?: string },
  ): boolean {
    const found = this.found(kind, target);
    const object = { ...found, metadata: { ...found.metadata } };
    if (uid !== undefined && uid !== object.metadata.uid)
      throw refused(409, `delete ${kind} ${target.name}`, 'Conflict', 'Precondition failed: UID in precondition');
    const finalizers = new Set(object.metadata.finalizers ?? []);
    if (propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion');
    // The kubelet removes a pod when its containers have ended, and the namespace controller an empty namespace.
    const isHeld = finalizers.size > 0 || kind === 'namespaces' || (kind === 'pods' && isActive(object));
    object.metadata.deletionTimestamp ??= timestamp(this.clock.nowMs());
    if (finalizers.size > 0) object.metadata.finalizers = [...finalizers];
    if (!isHeld) this.drop(kind, object);
    else this.store(kind, 'MODIFIED', object);
    return true;
  }

  /** Removes an object, whatever keeps it. */
  private drop(kind: Resource, object: StoredObject): StoredObject {
    return this.store(kind, 'DELETED', object);
  }

  private store(kind: Resource, type: StoredEvent['type'], object: StoredObject): StoredObject {
    this.version += 1;
    object.metadata.resourceVersion = String(this.version);
    const key = keyOf(kind, object.metadata);
    const before = this.kind(kind).get(key);
    if (type === 'DELETED') this.kind(kind).delete(key);
    else this.kind(kind).set(key, object);
    this.events.get(kind)?.push({ version: this.version, type, object, before });
    this.deliver();
    return object;
  }
}

/** Quicker than structuredClone. */
export function copyOf<T>(value: T): T {
  return value === undefined ? value : (JSON.parse(JSON.stringify(value)) as T);
}

function isActive({ status }: StoredObject): boolean {
  return status?.phase !== 'Succeeded' && status?.phase !== 'Failed';
}

function keyOf(kind: Resource, { namespace, name }: { namespace?: string; name: string }): string {
  return isClusterScoped(kind) ? name : `${namespace}/${name}`;
}

function isClusterScoped(kind: Resource): boolean {
  const description: ResourceDescription = RESOURCES[kind];
  return description.isClusterScoped ?? false;
}

export function refused(status: number, what: string, reason: string, message: string) {
  return refusedError({ what, status, body: JSON.stringify({ reason, message }) }, 0);
}

async function orUndefined<T>(call: Promise<T>): Promise<T | undefined> {
  return call.catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
}

async function orFalse<T>(call: Promise<T>): Promise<T | false> {
  return (await orUndefined(call)) ?? false;
}

function isNotFound(error: unknown): boolean {
  return (error as { cause?: { kind?: string } }).cause?.kind === 'NotFound';
}
