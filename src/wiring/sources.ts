/** The kinds of sources in a DiskExport, and the disks of a source. A new kind is one row of SOURCE_KINDS. */

import { DiskliftError } from '../common/errors.ts';
import { isPattern, lookAtVolume, matchDisks } from '../formats/find-disks.ts';
import { openNamedDisk } from '../formats/open-named-disk.ts';
import { openVolumeDisk } from '../formats/open-volume-disk.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { ofSource, type SourceKey, type SourceSpecs, sourceObject } from '../resource/source-kinds.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { InUse, WritersKnown } from '../sources/disk-in-use.ts';
import type { WriterSearch } from '../stores/kubernetes/store/pod-writers.ts';
import type { CommandContext } from './context.ts';
import type { WorkerRole } from './worker.ts';

export interface SourceEnvironment {
  /** Mount point or block device of each claim, of a snapshot's clone, or of a VM's volumes in their order. */
  volumes: ReadonlyMap<string, string>;
  /** Left out where the controller has not started this process. */
  worker?: WorkerRole | undefined;
  /** Searches for another pod that may write to a claim; left out without an API server. */
  findWriter?: ((claimName: string) => Promise<WriterSearch>) | undefined;
  context: CommandContext;
}

type VolumesKnown = Pick<SourceEnvironment, 'volumes' | 'worker'>;

type SourceSpec = DiskExport['spec']['source'];

interface SourceVolume {
  /** Mount point or block device. */
  place: string;
  /** Present for a VM's volume. It is in the paths of the status, because each volume has a disk.img. */
  name?: string;
  /** The claim to search for writers, where it is known. */
  claimName?: string | undefined;
}

interface SourceRow<Spec> {
  /** @returns the volumes of the source; none when this process does not serve the source */
  volumes(spec: Spec, known: VolumesKnown): SourceVolume[];
  /** @returns why this process does not serve the source */
  refusal(spec: Spec): string;
}

const SOURCE_KINDS: { [Key in SourceKey]: SourceRow<SourceSpecs[Key]> } = {
  persistentVolumeClaim: {
    volumes: ({ claimName }, known) => namedVolume(claimName, known).map((volume) => ({ ...volume, claimName })),
    refusal: ({ claimName }) =>
      `no process serves the claim ${claimName}; add it to the chart's \`volumes\`, or give its place by --volume ${claimName}=PATH. ` +
      `\`kubectl get pvc ${claimName}\` shows whether there is such a claim`,
  },
  volumeSnapshot: {
    volumes: ({ name }, known) => namedVolume(name, known),
    refusal: ({ name }) => `this worker has no clone of the VolumeSnapshot ${name}`,
  },
  virtualMachine: {
    volumes: (_, { volumes, worker }) => [...volumes].map(([name, place]) => ({ place, name, claimName: worker?.claimOf.get(name) })),
    refusal: ({ name }) => `this worker has no volume of the VirtualMachine ${name}`,
  },
  virtualMachineBackup: {
    volumes: () => [],
    refusal: ({ name }) => `the VirtualMachineBackup ${name} has no volume that a sidecar can mount; it needs disklift controller`,
  },
};

function namedVolume(name: string, { volumes }: VolumesKnown): SourceVolume[] {
  const place = volumes.get(name);
  return place === undefined ? [] : [{ place }];
}

/** @returns the volumes of the source, or why this process cannot run the export */
function volumesOf(source: SourceSpec, known: VolumesKnown): SourceVolume[] | string {
  return ofSource(source, (key, spec) => {
    const row = SOURCE_KINDS[key] as SourceRow<typeof spec>;
    const volumes = row.volumes(spec, known);
    return volumes.length === 0 ? row.refusal(spec) : volumes;
  });
}

/** @returns what only the controller can do for this export, or undefined */
function controllersTask({ source, snapshot }: DiskExport['spec']): string | undefined {
  const { kind, name } = sourceObject(source);
  if (kind !== 'PersistentVolumeClaim') return `an export of the ${kind} ${name}`;
  return snapshot === undefined || snapshot.mode === 'Never' ? undefined : `an export with spec.snapshot.mode ${snapshot.mode}`;
}

/** @returns why this process cannot run the export, or undefined when it can */
export function refusalOf({ spec }: DiskExport, known: VolumesKnown): string | undefined {
  const task = known.worker === undefined ? controllersTask(spec) : undefined;
  if (task !== undefined) return `${task} needs \`disklift controller\`; a sidecar exports claims as they are`;
  if (spec.source.virtualMachineBackup !== undefined) return undefined;
  const volumes = volumesOf(spec.source, known);
  return typeof volumes === 'string' ? volumes : undefined;
}

export interface SelectedDisk {
  /** Path in the status. */
  path: string;
  /** Path of the file on the volume. */
  file: string;
  format: NonNullable<SourceSpec['disks']>[number]['format'];
  volume: SourceVolume;
}

export interface SourceDisks {
  disks: SelectedDisk[];
  /** One sentence for each file that may be a disk and is not sent. */
  leftOut: readonly string[];
}

/** Finds the disks that the request names, or else all disks of its volumes. @throws DiskliftError `SourceNotFound` */
export async function findSourceDisks(request: DiskExport, environment: SourceEnvironment): Promise<SourceDisks> {
  const refusal = refusalOf(request, environment);
  // KubeVirt serves them; no volume has them.
  if (refusal === undefined && request.spec.source.virtualMachineBackup !== undefined) return { disks: [], leftOut: [] };
  const volumes = volumesOf(request.spec.source, environment);
  if (refusal !== undefined || typeof volumes === 'string') throw new DiskliftError('SourceNotFound', refusal ?? `${volumes}`);
  const found: SourceDisks[] = [];
  for (const volume of volumes) found.push(await findVolumeDisks(request, volume, environment));
  return { disks: found.flatMap(({ disks }) => disks), leftOut: found.flatMap(({ leftOut }) => leftOut) };
}

async function findVolumeDisks(
  { spec: { source } }: DiskExport,
  volume: SourceVolume,
  environment: SourceEnvironment,
): Promise<SourceDisks> {
  const { place, name } = volume;
  if (source.disks !== undefined) return { disks: await expanded(source.disks, volume), leftOut: [] };
  const { libc, warn } = environment.context;
  const found = await lookAtVolume(place, libc).catch((error: unknown) => {
    throw ofVolume(error, name);
  });
  for (const remark of found.remarks) warn(`${name ?? place}: ${remark}`);
  return {
    disks: found.disks.map((file) => ({ path: statusPath(file, name, found.disks.length), file, format: 'Auto', volume })),
    leftOut: name === undefined ? found.leftOut : found.leftOut.map((text) => `${name}: ${adviceForMachine(text)}`),
  };
}

/** The mount point of a worker means nothing to the user of a virtual machine. */
function ofVolume(error: unknown, name: string | undefined): unknown {
  if (name === undefined || !(error instanceof DiskliftError)) return error;
  const { code, message, retryable } = error;
  return new DiskliftError(code, `${name}: ${message}`, error, { retryable });
}

function statusPath(file: string, volumeName: string | undefined, diskCount: number): string {
  if (volumeName === undefined) return file;
  return diskCount === 1 ? volumeName : `${volumeName}/${file}`;
}

/** A request for a virtual machine names no disks. */
function adviceForMachine(text: string): string {
  return text.replace('in spec.source.disks', 'in spec.source.disks of a request for its claim');
}

/** Replaces a pattern by the files that match it. A file with an entry of its own keeps that entry. */
async function expanded(disks: NonNullable<SourceSpec['disks']>, volume: SourceVolume): Promise<SelectedDisk[]> {
  const named = new Map(disks.filter(({ path }) => !isPattern(path)).map((disk) => [disk.path, disk]));
  for (const disk of disks.filter(({ path }) => isPattern(path)))
    for (const path of await matchDisks(volume.place, disk.path)) if (!named.has(path)) named.set(path, { ...disk, path });
  return [...named.values()].map(({ path, format }) => ({ path, file: path, format, volume }));
}

const IN_USE = { Wait: 'wait', Fail: 'fail', Allow: 'allow' } as const satisfies Record<SourceSpec['inUse'], InUse>;

/** @throws DiskliftError as {@link openVolumeDisk}; `SourceInUse` when another pod may write to the source */
export async function openSourceDisk(
  { spec: { source, image } }: DiskExport,
  { volume, file, format }: SelectedDisk,
  environment: SourceEnvironment,
  signal: AbortSignal,
): Promise<DiskSource> {
  const inUse = IN_USE[source.inUse];
  const writers = await requireNoWriter(volume, inUse, environment);
  const { context } = environment;
  const disk = { volumePath: volume.place, path: file, format: image.layout === 'Verbatim' ? 'Raw' : format };
  return openVolumeDisk(disk, { ...context, signal, inUse, writers });
}

/** Requires that no other process may write to the volume. @throws DiskliftError `SourceInUse` */
async function requireNoWriter(
  { claimName, name }: SourceVolume,
  inUse: InUse,
  { worker, findWriter }: SourceEnvironment,
): Promise<WritersKnown | undefined> {
  // No other pod mounts a clone, which is deleted after the export.
  if (worker?.state === 'PointInTime') return { isFree: true };
  if (findWriter === undefined || inUse === 'allow') return undefined;
  if (claimName === undefined) return { isFree: false, why: `the worker does not know the claim of ${name ?? 'the volume'}` };
  const found = await findWriter(claimName);
  if (found.kind === 'none') return { isFree: true };
  if (found.kind === 'unknown') return { isFree: false, why: found.why };
  throw new DiskliftError(
    'SourceInUse',
    `the claim ${claimName} is in use by ${found.who}; stop it, or read the disk as it is with inUse Allow`,
    undefined,
    { retryable: inUse === 'wait' },
  );
}

/** Opens vm.yaml. Its file may be a link, as in a mounted ConfigMap. @throws DiskliftError as {@link openNamedDisk} */
export function openManifest(file: string, { context }: SourceEnvironment, signal: AbortSignal): Promise<DiskSource> {
  // Only the controller writes the file, so it has no locks.
  return openNamedDisk({ path: file, format: 'raw' }, { ...context, signal, inUse: 'allow' });
}
