/**
 * The kinds of sources that a request can name, with the facts that need no volume. Pure. A new field of
 * `ExportSource` does not compile until it has a row here and in wiring/sources.ts, which finds the disks.
 */

import { DiskliftError } from '../common/errors.ts';
import type { DiskExportSpec, ExportSource } from './disk-export.ts';
import type { FieldError } from './rules.ts';

/** The other fields of a source select disks and say how they are read, whatever the kind. */
export type SourceKey = Exclude<keyof ExportSource, 'disks' | 'inUse' | 'verify'>;

/** The part of a request for each kind, by the name of its field. */
export type SourceSpecs = Required<Pick<ExportSource, SourceKey>>;

export interface SourceObject {
  kind: 'PersistentVolumeClaim' | 'VolumeSnapshot' | 'VirtualMachine' | 'VirtualMachineBackup';
  name: string;
}

const OBJECTS: { [Key in SourceKey]: (spec: SourceSpecs[Key]) => SourceObject } = {
  persistentVolumeClaim: ({ claimName }) => ({ kind: 'PersistentVolumeClaim', name: claimName }),
  volumeSnapshot: ({ name }) => ({ kind: 'VolumeSnapshot', name }),
  virtualMachine: ({ name }) => ({ kind: 'VirtualMachine', name }),
  virtualMachineBackup: ({ name }) => ({ kind: 'VirtualMachineBackup', name }),
};

/** Name of the file that describes a virtual machine, and its path in the status. No volume can have this name. */
export const VM_MANIFEST = 'vm.yaml';

/** @param diskPath path in the status */
export function isManifest({ virtualMachine }: ExportSource, diskPath: string): boolean {
  return virtualMachine !== undefined && diskPath === VM_MANIFEST;
}

const KEYS = Object.keys(OBJECTS) as SourceKey[];

/**
 * Calls `use` with the field that the request has set.
 * @throws DiskliftError `InvalidRequest` for a kind that this version does not support
 */
export function ofSource<T>(source: ExportSource, use: <Key extends SourceKey>(key: Key, spec: SourceSpecs[Key]) => T): T {
  for (const key of KEYS) {
    const spec = source[key];
    if (spec !== undefined) return use(key, spec);
  }
  throw new DiskliftError('InvalidRequest', 'spec.source names no source that this version of disklift knows');
}

/** @returns the object of the cluster that the request exports. @throws DiskliftError as {@link ofSource} */
export function sourceObject(source: ExportSource): SourceObject {
  return ofSource(source, (key, spec) => OBJECTS[key](spec));
}

function* volumeErrors(volumes: readonly string[]): Generator<FieldError> {
  for (const [index, name] of volumes.entries())
    if (volumes.indexOf(name) < index)
      yield {
        field: `spec.source.virtualMachine.volumes[${index}]`,
        message: `names ${JSON.stringify(name)}, which is in the list already`,
      };
}

/** Errors that the schema of a source accepts: twins of x-kubernetes-validations in manifests/crd.yaml. */
export function* sourceErrors({
  source,
  destination,
  incremental,
}: Pick<DiskExportSpec, 'source' | 'destination' | 'incremental'>): Generator<FieldError> {
  const { virtualMachine, virtualMachineBackup } = source;
  if (KEYS.filter((key) => source[key] !== undefined).length !== 1)
    yield {
      field: 'spec.source',
      message: 'exactly one of persistentVolumeClaim, volumeSnapshot, virtualMachine and virtualMachineBackup must be set',
    };
  if (source.disks !== undefined && (virtualMachine !== undefined || virtualMachineBackup !== undefined))
    yield { field: 'spec.source.disks', message: 'is not for a virtual machine, which has volumes' };
  yield* volumeErrors(virtualMachine?.volumes ?? []);
  const { http, s3 } = destination;
  const templates = {
    'destination.http.url': http?.url,
    'destination.s3.key': s3?.key,
    'incremental.base': incremental?.base,
    'incremental.tracker': incremental?.tracker,
  };
  for (const [field, template = ''] of Object.entries(templates))
    if (virtualMachine === undefined && template.includes('{vm}'))
      yield { field: `spec.${field}`, message: 'may have {vm} only where spec.source is a virtualMachine' };
  if (virtualMachine?.manifest === true && !takesOtherFiles(destination))
    yield { field: 'spec.source.virtualMachine.manifest', message: 'needs S3, or HTTP with url and the method PUT' };
}

/** Whether other files can lie beside the images: vm.yaml, receipts, trackers. */
export function takesOtherFiles({ http, s3 }: DiskExportSpec['destination']): boolean {
  return s3 !== undefined || (http?.url !== undefined && http.method === 'PUT');
}
