/** The kinds of objects that the controller uses. */

import { type ApiConnectionOptions, createApiConnection } from './api-connection.ts';
import { createApiResource } from './api-resource.ts';
import type { KubeResource, ResourceDescription } from './contract.ts';
import type {
  ClaimObject,
  FleetPodObject,
  JobObject,
  RoleBindingObject,
  ScheduleObject,
  ServiceAccountObject,
  StorageClassObject,
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
  virtualMachines: VirtualMachineObject;
  virtualMachineInstances: VirtualMachineInstanceObject;
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
    virtualMachines: resource(RESOURCES.virtualMachines),
    virtualMachineInstances: resource(RESOURCES.virtualMachineInstances),
    virtualMachineSnapshots: resource(RESOURCES.virtualMachineSnapshots),
    virtualMachineSnapshotContents: resource(RESOURCES.virtualMachineSnapshotContents),
  };
}
