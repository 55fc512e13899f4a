/** The kinds of objects that the controller uses. */

import { abortable } from '../../../common/abortable.ts';
import { type ApiConnectionOptions, createApiConnection } from './api-connection.ts';
import { createApiResource } from './api-resource.ts';
import type { CallOptions, KubeResource, ResourceDescription } from './contract.ts';
import type {
  ClaimObject,
  FleetPodObject,
  JobObject,
  RoleBindingObject,
  ScheduleObject,
  ServiceAccountObject,
  SnapshotMetadataServiceObject,
  StorageClassObject,
  VirtualMachineBackupObject,
  VirtualMachineInstanceObject,
  VirtualMachineObject,
  VirtualMachineSnapshotContentObject,
  VirtualMachineSnapshotObject,
  VolumeSnapshotClassObject,
  VolumeSnapshotContentObject,
  VolumeSnapshotObject,
} from './fleet-objects.ts';
import type { AnyObject, DataObject, EventObject, ExportObject, LeaseObject, NamespaceObject } from './objects.ts';
import { RESOURCES } from './resources.ts';

interface FleetObjects {
  exports: ExportObject;
  schedules: ScheduleObject;
  leases: LeaseObject;
  events: EventObject;
  namespaces: NamespaceObject;
  jobs: JobObject;
  pods: FleetPodObject;
  persistentVolumeClaims: ClaimObject;
  configMaps: DataObject;
  serviceAccounts: ServiceAccountObject;
  roleBindings: RoleBindingObject;
  storageClasses: StorageClassObject;
  volumeSnapshotClasses: VolumeSnapshotClassObject;
  volumeSnapshots: VolumeSnapshotObject;
  volumeSnapshotContents: VolumeSnapshotContentObject;
  snapshotMetadataServices: SnapshotMetadataServiceObject;
  virtualMachines: VirtualMachineObject;
  virtualMachineInstances: VirtualMachineInstanceObject;
  virtualMachineBackups: VirtualMachineBackupObject;
  virtualMachineSnapshots: VirtualMachineSnapshotObject;
  virtualMachineSnapshotContents: VirtualMachineSnapshotContentObject;
}

export type FleetApi = { readonly [Key in keyof FleetObjects]: KubeResource<FleetObjects[Key]> };

/** Loading this file loads undici, as kube-api.ts does. */
export function createFleetApi(options: ApiConnectionOptions): FleetApi {
  const connection = createApiConnection(options);
  const resource = <T extends AnyObject>(description: ResourceDescription) => createApiResource<T>(connection, description);
  return {
    exports: resource(RESOURCES.exports),
    schedules: resource(RESOURCES.schedules),
    leases: resource(RESOURCES.leases),
    events: resource(RESOURCES.events),
    namespaces: resource(RESOURCES.namespaces),
    jobs: resource(RESOURCES.jobs),
    pods: resource(RESOURCES.pods),
    persistentVolumeClaims: resource(RESOURCES.persistentVolumeClaims),
    configMaps: resource(RESOURCES.configMaps),
    serviceAccounts: resource(RESOURCES.serviceAccounts),
    roleBindings: resource(RESOURCES.roleBindings),
    storageClasses: resource(RESOURCES.storageClasses),
    volumeSnapshotClasses: resource(RESOURCES.volumeSnapshotClasses),
    volumeSnapshots: resource(RESOURCES.volumeSnapshots),
    volumeSnapshotContents: resource(RESOURCES.volumeSnapshotContents),
    snapshotMetadataServices: resource(RESOURCES.snapshotMetadataServices),
    virtualMachines: resource(RESOURCES.virtualMachines),
    virtualMachineInstances: resource(RESOURCES.virtualMachineInstances),
    virtualMachineBackups: resource(RESOURCES.virtualMachineBackups),
    virtualMachineSnapshots: resource(RESOURCES.virtualMachineSnapshots),
    virtualMachineSnapshotContents: resource(RESOURCES.virtualMachineSnapshotContents),
  };
}

export interface WriteGuard {
  /** Ends running calls, and prevents new ones. Watches have signals of their own. */
  signal: AbortSignal;
  /** Awaited before each call that changes an object. Its failure is the failure of the call. */
  beforeWrite(): Promise<void>;
  /** Time limit of a call that changes an object, from the end of `beforeWrite`. */
  writeLimitMs: number;
}

/**
 * The API of a process that may write only for a time. The write that begins last ends within `writeLimitMs`, unless
 * the API server holds it back.
 */
export function guardFleetApi(api: FleetApi, guard: WriteGuard): FleetApi {
  const guarded = Object.entries(api).map(([key, resource]) => [key, guardResource<AnyObject>(resource, guard)]);
  return Object.fromEntries(guarded) as FleetApi;
}

function guardResource<T extends AnyObject>(resource: KubeResource<T>, guard: WriteGuard): KubeResource<T> {
  const signalOf = ({ signal }: CallOptions = {}) => (signal === undefined ? guard.signal : AbortSignal.any([signal, guard.signal]));
  const limited = <O extends CallOptions>(options: O | undefined) => ({ ...(options as O), signal: signalOf(options) });
  async function write<O extends CallOptions, V>(options: O | undefined, call: (options: O) => Promise<V>): Promise<V> {
    const limits = limited(options);
    await abortable(guard.beforeWrite(), limits.signal);
    return call({ ...limits, limitMs: Math.min(guard.writeLimitMs, limits.limitMs ?? Number.POSITIVE_INFINITY) });
  }
  return {
    description: resource.description,
    get: (target, options) => resource.get(target, limited(options)),
    list: (namespace, options) => resource.list(namespace, limited(options)),
    watch: (namespace, options) => resource.watch(namespace, options),
    create: (object, options) => write(options, (limits) => resource.create(object, limits)),
    replace: (object, options) => write(options, (limits) => resource.replace(object, limits)),
    patch: (target, options) => write(options, (limits) => resource.patch(target, limits)),
    remove: (target, options) => write(options, (limits) => resource.remove(target, limits)),
  };
}
