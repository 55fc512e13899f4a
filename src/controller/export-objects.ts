/** Names, labels and manifests of the objects that the controller makes for one export. Pure. */

import type { DiskExport } from '../resource/disk-export.ts';
import { VM_MANIFEST } from '../resource/source-kinds.ts';
import type { MergePatch } from '../stores/kubernetes/client/contract.ts';
import type { KubeObject } from '../stores/kubernetes/client/objects.ts';
import type { NewObject } from './decision.ts';

const MANAGED_BY = 'disklift-controller';

/** Selects all objects of the controller. */
export const MANAGED_SELECTOR = `app.kubernetes.io/managed-by=${MANAGED_BY}`;

const EXPORT_UID = 'disklift.dev/export-uid';

/** Name of the export. An annotation, because names may be longer than values of labels. */
const EXPORT_NAME = 'disklift.dev/export';

type Owner = Pick<DiskExport, 'metadata'>;

export const MANAGED_LABELS = { 'app.kubernetes.io/name': 'disklift', 'app.kubernetes.io/managed-by': MANAGED_BY } as const;

/** Job, ConfigMap and VirtualMachineSnapshot of the export. */
export function objectName({ metadata }: Owner): string {
  return `disklift-${metadata.uid}`;
}

/** Job that only aborts uploads. */
export function cleanupName(owner: Owner): string {
  return `${objectName(owner)}-cleanup`;
}

/** VolumeSnapshot and clone of one volume. */
export function volumeObjectName(owner: Owner, index: number): string {
  return `${objectName(owner)}-${index}`;
}

/** @returns the index of the volume, or undefined for another object */
export function indexOfVolumeObject(owner: Owner, name: string): number | undefined {
  const prefix = `${objectName(owner)}-`;
  const rest = name.startsWith(prefix) ? name.slice(prefix.length) : '';
  return /^\d+$/.test(rest) ? Number(rest) : undefined;
}

export function labelsOf({ metadata }: Owner): Record<string, string> {
  return { ...MANAGED_LABELS, [EXPORT_UID]: metadata.uid };
}

/** Selects the objects of one export. */
export function exportSelector({ metadata }: Owner): string {
  return `${EXPORT_UID}=${metadata.uid}`;
}

export function annotationsOf({ metadata }: Owner): Record<string, string> {
  return { [EXPORT_NAME]: metadata.name };
}

interface ChildMeta {
  namespace: string;
  labels?: Readonly<Record<string, string>>;
  annotations?: Readonly<Record<string, string>>;
}

/** @returns NAMESPACE/NAME of the export for which the object was made; undefined for an object of others */
export function exportKeyOf({ namespace, labels, annotations }: ChildMeta): string | undefined {
  const name = annotations?.[EXPORT_NAME];
  return labels?.['app.kubernetes.io/managed-by'] === MANAGED_BY && name !== undefined ? `${namespace}/${name}` : undefined;
}

export function exportUidOf({ labels }: ChildMeta): string | undefined {
  return labels?.[EXPORT_UID];
}

/** The metadata of every child: the garbage collector deletes it with the export. */
export function childMetadata(owner: Owner, name: string): NewObject['metadata'] {
  const { namespace, name: exportName, uid } = owner.metadata;
  return {
    name,
    namespace,
    labels: labelsOf(owner),
    annotations: annotationsOf(owner),
    ownerReferences: [{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', name: exportName, uid }],
  };
}

/** Whether a container could write to the claim when its snapshot was requested. */
const IN_USE = 'disklift.dev/in-use';

/** @returns whether no container could write to the claim when this snapshot of it was requested */
export function wasTakenFree({ annotations }: { annotations?: Readonly<Record<string, string>> }): boolean {
  return annotations?.[IN_USE] === 'false';
}

/** Marks of a snapshot that stays when its export has succeeded. */
interface TrackerMarks {
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
}

/** A patch of a snapshot that belongs to its claim from now on, and to no export. */
export function handedToClaim({ metadata: { name, uid } }: KubeObject): MergePatch {
  return {
    metadata: {
      labels: { [EXPORT_UID]: null },
      annotations: { [EXPORT_NAME]: null, [IN_USE]: null },
      ownerReferences: [{ apiVersion: 'v1', kind: 'PersistentVolumeClaim', name, uid }],
    },
  };
}

export function volumeSnapshotOf(
  owner: Owner,
  index: number,
  {
    claimName,
    className,
    isInUse,
    tracker,
  }: { claimName: string; className: string; isInUse: boolean; tracker?: TrackerMarks | undefined },
): NewObject {
  const metadata = childMetadata(owner, volumeObjectName(owner, index));
  return {
    apiVersion: 'snapshot.storage.k8s.io/v1',
    kind: 'VolumeSnapshot',
    metadata: {
      ...metadata,
      labels: { ...metadata.labels, ...tracker?.labels },
      annotations: { ...metadata.annotations, [IN_USE]: String(isInUse), ...tracker?.annotations },
    },
    spec: { volumeSnapshotClassName: className, source: { persistentVolumeClaimName: claimName } },
  };
}

export interface CloneOptions {
  snapshotName: string;
  storageClassName: string | undefined;
  volumeMode: 'Block' | 'Filesystem';
  /** As a Kubernetes quantity. */
  size: string;
}

/** The claim that is made from the snapshot. Only the worker's pod uses it. */
export function cloneOf(owner: Owner, index: number, { snapshotName, storageClassName, volumeMode, size }: CloneOptions): NewObject {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: childMetadata(owner, volumeObjectName(owner, index)),
    spec: {
      accessModes: ['ReadWriteOnce'],
      volumeMode,
      ...(storageClassName === undefined ? {} : { storageClassName }),
      dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: snapshotName },
      resources: { requests: { storage: size } },
    },
  };
}

export function manifestConfigMapOf(owner: Owner, text: string): NewObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: childMetadata(owner, objectName(owner)),
    immutable: true,
    data: { [VM_MANIFEST]: text },
  };
}
