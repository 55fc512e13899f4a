/**
 * Copies of what the controller watches: the exports, the objects that it has made for them, and the pods that use
 * claims. Indexes answer each question without a look at all objects.
 */

import type { Clock } from '../common/clock.ts';
import type { DiskliftError } from '../common/errors.ts';
import { isFields } from '../resource/schema.ts';
import type { RunningReflector } from '../stores/kubernetes/cache/reflector.ts';
import { type KubeResource, namespaceOf } from '../stores/kubernetes/client/contract.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type {
  ClaimObject,
  FleetPodObject,
  JobObject,
  VirtualMachineSnapshotObject,
  VolumeSnapshotObject,
} from '../stores/kubernetes/client/fleet-objects.ts';
import type { DataObject, ExportObject, KubeObject } from '../stores/kubernetes/client/objects.ts';
import { createKnownExports, type KnownExports } from '../stores/kubernetes/store/export-object.ts';
import { CachedKind } from './cached-kind.ts';
import type { ChildResource } from './decision.ts';
import { exportKeyOf, MANAGED_SELECTOR } from './export-objects.ts';
import { GroupedKeys } from './grouped-keys.ts';
import { slimExport, slimMetadata, slimPod } from './slim-objects.ts';

interface ChildObjects {
  jobs: JobObject;
  configMaps: DataObject;
  persistentVolumeClaims: ClaimObject;
  volumeSnapshots: VolumeSnapshotObject;
  virtualMachineSnapshots: VirtualMachineSnapshotObject;
}

export interface FleetCacheOptions {
  api: FleetApi;
  /** Empty: all namespaces. */
  namespaces: readonly string[];
  clock: Clock;
  random(): number;
  warn(message: string): void;
  /** Called with the key of an export that may need work. Must not throw. */
  onExport(key: string): void;
}

export interface FleetCache {
  readonly exports: KnownExports & { keys(): Iterable<string> };
  child<R extends ChildResource>(resource: R, key: string): ChildObjects[R] | undefined;
  /** Takes the answer to a create: the reflector may receive it later. */
  learn(resource: ChildResource, object: KubeObject): void;
  /** Objects that exist for the export. */
  childrenOf(key: string): Iterable<{ resource: ChildResource; name: string }>;
  /** Keys of the exports for which some object of the controller exists. */
  ownersOfChildren(): ReadonlySet<string>;
  childrenOfKind(resource: ChildResource): Iterable<KubeObject>;
  /** Pods of the export's Jobs. @param key of the export */
  workersOf(key: string): FleetPodObject[];
  /** Pods that use the claim, without workers of the controller. */
  usersOf(namespace: string, claimName: string): FleetPodObject[];
  readonly hasSynced: boolean;
  /** A failure of the last request of one of the watches; undefined while all are answered. */
  readonly problem: DiskliftError | undefined;
  /** The longest time since the API server last answered one of the watches, in milliseconds; undefined at first. */
  silenceMs(): number | undefined;
  /** Keeps the copies up to date until `signal` is aborted. Never throws. */
  run(signal: AbortSignal): Promise<void>;
}

const CHILDREN = {
  jobs: { isOptional: false },
  configMaps: { isOptional: false },
  persistentVolumeClaims: { isOptional: false },
  volumeSnapshots: { isOptional: true },
  virtualMachineSnapshots: { isOptional: true },
} as const satisfies Record<ChildResource, { isOptional: boolean }>;

/** A watch shows a created object after this time, unless it is broken. */
const CREATED_MS = 30_000;

const RESOURCES = Object.keys(CHILDREN) as ChildResource[];

export function createFleetCache(options: FleetCacheOptions): FleetCache {
  return new Fleet(options);
}

class Fleet implements FleetCache {
  readonly exports: FleetCache['exports'];
  private readonly exportKind: CachedKind<ExportObject>;
  private readonly pods: CachedKind<FleetPodObject>;
  private readonly children: ReadonlyMap<ChildResource, CachedKind<KubeObject>>;
  /** Created objects that the reflector has not received yet. */
  private readonly created = new Map<string, { object: KubeObject; sinceMs: number }>();
  private readonly clock: Clock;
  /** Children as `RESOURCE KEY`. */
  private readonly childrenOfExport = new GroupedKeys();
  private readonly podsOfExport = new GroupedKeys();
  private readonly podsOfClaim = new GroupedKeys();
  private readonly exportsOfClaim = new GroupedKeys();
  private readonly onExport: (key: string) => void;

  constructor(options: FleetCacheOptions) {
    const { api, onExport } = options;
    this.onExport = onExport;
    this.clock = options.clock;
    this.exportKind = new CachedKind<ExportObject>({
      ...options,
      resource: api.exports,
      transform: slimExport,
      onKey: (key) => this.onExportKey(key),
    });
    this.pods = new CachedKind<FleetPodObject>({ ...options, resource: api.pods, transform: slimPod, onKey: (key) => this.onPodKey(key) });
    this.children = new Map(
      RESOURCES.map((resource) => [
        resource,
        new CachedKind<KubeObject>({
          ...options,
          resource: api[resource] as unknown as KubeResource<KubeObject>,
          labelSelector: MANAGED_SELECTOR,
          isOptional: CHILDREN[resource].isOptional,
          transform: (object) => slimChild(resource, object),
          onKey: (key) => this.onChildKey(resource, key),
        }),
      ]),
    );
    const known = createKnownExports(this.exportKind);
    this.exports = { get: (key) => known.get(key), learn: (object) => known.learn(object), keys: () => this.exportKind.keys() };
  }

  get hasSynced(): boolean {
    return this.reflectors().every((reflector) => reflector.hasSynced);
  }

  get problem(): DiskliftError | undefined {
    return this.reflectors().find(({ problem }) => problem !== undefined)?.problem;
  }

  silenceMs(): number | undefined {
    const silences = this.reflectors().map((reflector) => reflector.silenceMs());
    return silences.includes(undefined) ? undefined : Math.max(...(silences as number[]));
  }

  child<R extends ChildResource>(resource: R, key: string): ChildObjects[R] | undefined {
    const found = this.children.get(resource)?.get(key) ?? this.createdObject(`${resource} ${key}`);
    return found as ChildObjects[R] | undefined;
  }

  /** The object may have been deleted while the watch was broken: then no event ever shows it. */
  private createdObject(id: string): KubeObject | undefined {
    const created = this.created.get(id);
    if (created === undefined || this.clock.monotonicMs() - created.sinceMs < CREATED_MS) return created?.object;
    this.created.delete(id);
    this.setOwner(id, undefined);
    return undefined;
  }

  learn(resource: ChildResource, object: KubeObject): void {
    const { namespace, name } = object.metadata;
    const key = `${namespace}/${name}`;
    if (this.children.get(resource)?.get(key) === undefined)
      this.created.set(`${resource} ${key}`, { object: slimChild(resource, object), sinceMs: this.clock.monotonicMs() });
    this.setOwner(`${resource} ${key}`, object);
  }

  ownersOfChildren(): ReadonlySet<string> {
    return new Set(this.childrenOfExport.names());
  }

  *childrenOf(key: string): Iterable<{ resource: ChildResource; name: string }> {
    for (const id of [...this.childrenOfExport.get(key)]) {
      const [resource, path = ''] = id.split(' ') as [ChildResource, string];
      if (this.child(resource, path) !== undefined) yield { resource, name: path.slice(path.indexOf('/') + 1) };
    }
  }

  *childrenOfKind(resource: ChildResource): Iterable<KubeObject> {
    const kind = this.children.get(resource);
    for (const key of kind?.keys() ?? []) {
      const object = kind?.get(key);
      if (object !== undefined) yield object;
    }
  }

  workersOf(key: string): FleetPodObject[] {
    return this.podsAt(this.podsOfExport.get(key));
  }

  usersOf(namespace: string, claimName: string): FleetPodObject[] {
    return this.podsAt(this.podsOfClaim.get(`${namespace}/${claimName}`)).filter((pod) => exportKeyOf(pod.metadata) === undefined);
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.reflectors().map((reflector) => reflector.run(signal)));
  }

  private reflectors(): RunningReflector<KubeObject>[] {
    return [this.exportKind, this.pods, ...this.children.values()].flatMap((kind) => kind.all() as RunningReflector<KubeObject>[]);
  }

  private podsAt(keys: Iterable<string>): FleetPodObject[] {
    return [...keys].map((key) => this.pods.get(key)).filter((pod) => pod !== undefined);
  }

  private onExportKey(key: string): void {
    const claimName = claimNameOf(this.exportKind.get(key));
    this.exportsOfClaim.set(key, claimName === undefined ? [] : [`${namespaceOf(key)}/${claimName}`]);
    this.onExport(key);
  }

  private onPodKey(key: string): void {
    const pod = this.pods.get(key);
    const before = [...this.podsOfClaim.groupsOf(key), ...this.podsOfExport.groupsOf(key)];
    const owner = pod === undefined ? undefined : exportKeyOf(pod.metadata);
    this.podsOfExport.set(key, owner === undefined ? [] : [owner]);
    this.podsOfClaim.set(key, pod === undefined || owner !== undefined ? [] : claimsOf(pod));
    const exports = new Set(owner === undefined ? [] : [owner]);
    for (const group of [...before, ...this.podsOfClaim.groupsOf(key)]) {
      for (const each of this.exportsOfClaim.get(group)) exports.add(each);
      // A group of podsOfExport is the export itself.
      if (this.exportKind.get(group) !== undefined) exports.add(group);
    }
    for (const each of exports) this.onExport(each);
  }

  private onChildKey(resource: ChildResource, key: string): void {
    const id = `${resource} ${key}`;
    this.created.delete(id);
    const [before] = this.childrenOfExport.groupsOf(id);
    const object = this.children.get(resource)?.get(key);
    this.setOwner(id, object);
    const owner = before ?? this.childrenOfExport.groupsOf(id)[0];
    if (owner !== undefined) this.onExport(owner);
  }

  private setOwner(id: string, object: KubeObject | undefined): void {
    const owner = object === undefined ? undefined : exportKeyOf(object.metadata);
    this.childrenOfExport.set(id, owner === undefined ? [] : [owner]);
  }
}

/** The text of a ConfigMap can be a megabyte, and nothing needs it again. */
function slimChild(resource: ChildResource, object: KubeObject): KubeObject {
  const slim = slimMetadata(object);
  return resource === 'configMaps' ? { metadata: slim.metadata } : slim;
}

function claimNameOf(object: ExportObject | undefined): string | undefined {
  const { spec } = object ?? {};
  const source = isFields(spec) && isFields(spec.source) ? spec.source : undefined;
  const claim = isFields(source?.persistentVolumeClaim) ? source.persistentVolumeClaim.claimName : undefined;
  return typeof claim === 'string' ? claim : undefined;
}

function claimsOf({ metadata, spec }: FleetPodObject): string[] {
  return (spec.volumes ?? []).flatMap(({ name, persistentVolumeClaim, ephemeral }) => {
    if (persistentVolumeClaim !== undefined) return `${metadata.namespace}/${persistentVolumeClaim.claimName}`;
    return ephemeral === undefined ? [] : `${metadata.namespace}/${metadata.name}-${name}`;
  });
}
