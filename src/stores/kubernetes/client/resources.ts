/** The kinds of objects that disklift uses, with their names in the API. */

import type { ResourceDescription } from './contract.ts';

const CORE = { group: '', version: 'v1' };
const DISKLIFT = { group: 'disklift.dev', version: 'v1alpha1' };
const APPS = { group: 'apps', version: 'v1' };
const BATCH = { group: 'batch', version: 'v1' };
const CSI_SNAPSHOTS = { group: 'snapshot.storage.k8s.io', version: 'v1' };
const KUBEVIRT = { group: 'kubevirt.io', version: 'v1' };
const KUBEVIRT_BACKUPS = { group: 'backup.kubevirt.io', version: 'v1alpha1' };
const KUBEVIRT_SNAPSHOTS = { group: 'snapshot.kubevirt.io', version: 'v1beta1' };

export const RESOURCES = {
  exports: { ...DISKLIFT, kind: 'DiskExport', plural: 'diskexports' },
  schedules: { ...DISKLIFT, kind: 'DiskExportSchedule', plural: 'diskexportschedules' },
  leases: { group: 'coordination.k8s.io', version: 'v1', kind: 'Lease', plural: 'leases' },
  events: { ...CORE, kind: 'Event', plural: 'events' },
  pods: { ...CORE, kind: 'Pod', plural: 'pods' },
  secrets: { ...CORE, kind: 'Secret', plural: 'secrets' },
  configMaps: { ...CORE, kind: 'ConfigMap', plural: 'configmaps' },
  serviceAccounts: { ...CORE, kind: 'ServiceAccount', plural: 'serviceaccounts' },
  persistentVolumeClaims: { ...CORE, kind: 'PersistentVolumeClaim', plural: 'persistentvolumeclaims' },
  namespaces: { ...CORE, kind: 'Namespace', plural: 'namespaces', isClusterScoped: true },
  deployments: { ...APPS, kind: 'Deployment', plural: 'deployments' },
  jobs: { ...BATCH, kind: 'Job', plural: 'jobs' },
  cronJobs: { ...BATCH, kind: 'CronJob', plural: 'cronjobs' },
  roleBindings: { group: 'rbac.authorization.k8s.io', version: 'v1', kind: 'RoleBinding', plural: 'rolebindings' },
  storageClasses: { group: 'storage.k8s.io', version: 'v1', kind: 'StorageClass', plural: 'storageclasses', isClusterScoped: true },
  volumeSnapshots: { ...CSI_SNAPSHOTS, kind: 'VolumeSnapshot', plural: 'volumesnapshots' },
  volumeSnapshotClasses: { ...CSI_SNAPSHOTS, kind: 'VolumeSnapshotClass', plural: 'volumesnapshotclasses', isClusterScoped: true },
  volumeSnapshotContents: { ...CSI_SNAPSHOTS, kind: 'VolumeSnapshotContent', plural: 'volumesnapshotcontents', isClusterScoped: true },
  snapshotMetadataServices: {
    ...{ group: 'cbt.storage.k8s.io', version: 'v1beta1', kind: 'SnapshotMetadataService', plural: 'snapshotmetadataservices' },
    isClusterScoped: true,
  },
  virtualMachines: { ...KUBEVIRT, kind: 'VirtualMachine', plural: 'virtualmachines' },
  virtualMachineInstances: { ...KUBEVIRT, kind: 'VirtualMachineInstance', plural: 'virtualmachineinstances' },
  virtualMachineBackups: { ...KUBEVIRT_BACKUPS, kind: 'VirtualMachineBackup', plural: 'virtualmachinebackups' },
  virtualMachineBackupTrackers: { ...KUBEVIRT_BACKUPS, kind: 'VirtualMachineBackupTracker', plural: 'virtualmachinebackuptrackers' },
  virtualMachineSnapshots: { ...KUBEVIRT_SNAPSHOTS, kind: 'VirtualMachineSnapshot', plural: 'virtualmachinesnapshots' },
  virtualMachineSnapshotContents: {
    ...KUBEVIRT_SNAPSHOTS,
    kind: 'VirtualMachineSnapshotContent',
    plural: 'virtualmachinesnapshotcontents',
  },
} as const satisfies Record<string, ResourceDescription>;
