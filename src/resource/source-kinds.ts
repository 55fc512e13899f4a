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
  kind: 'PersistentVolumeClaim' | 'VolumeSnapshot' | 'VirtualMachine';
  name: string;
}

const OBJECTS: { [Key in SourceKey]: (spec: SourceSpecs[Key]) => SourceObject } = {
  persistentVolumeClaim: ({ claimName }) => ({ kind: 'PersistentVolumeClaim', name: claimName }),
  volumeSnapshot: ({ name }) => ({ kind: 'VolumeSnapshot', name }),
  virtualMachine: ({ name }) => ({ kind: 'VirtualMachine', name }),
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
export function* sourceErrors({ source, destination }: Pick<DiskExportSpec, 'source' | 'destination'>): Generator<FieldError> {
  const { virtualMachine } = source;
  if (KEYS.filter((key) => source[key] !== undefined).length !== 1)
    yield { field: 'spec.source', message: 'exactly one of persistentVolumeClaim, volumeSnapshot and virtualMachine must be set' };
  if (source.disks !== undefined && virtualMachine !== undefined)
    yield { field: 'spec.source.disks', message: 'is not for a virtualMachine, which has volumes' };
  yield* volumeErrors(virtualMachine?.volumes ?? []);
  const { http, s3 } = destination;
  const templates = { 'http.url': http?.url, 's3.key': s3?.key };
  for (const [field, template = ''] of Object.entries(templates))
    if (virtualMachine === undefined && template.includes('{vm}'))
      yield { field: `spec.destination.${field}`, message: 'may have {vm} only where spec.source is a virtualMachine' };
  if (virtualMachine?.manifest === true && !takesManifest(destination))
    yield { field: 'spec.source.virtualMachine.manifest', message: 'needs S3, or HTTP with url and the method PUT' };
}

/** Whether vm.yaml can have a place of its own beside the images. */
export function takesManifest({ http, s3 }: DiskExportSpec['destination']): boolean {
  return s3 !== undefined || (http?.url !== undefined && http.method === 'PUT');
}
