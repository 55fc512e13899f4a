/** The kinds of sources in a DiskExport, and the disks of a source. A new kind is one row of SOURCE_KINDS. */

import { DiskliftError } from '../common/errors.ts';
import { isPattern, lookAtVolume, matchDisks } from '../formats/find-disks.ts';
import { openVolumeDisk } from '../formats/open-volume-disk.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { ofSource, type SourceKey, type SourceSpecs } from '../resource/source-kinds.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { InUse, WritersKnown } from '../sources/disk-in-use.ts';
import type { WriterSearch } from '../stores/kubernetes/store/pod-writers.ts';
import type { CommandContext } from './context.ts';

export interface SourceEnvironment {
  /** Mount point or block device of each claim. */
  volumes: ReadonlyMap<string, string>;
  /** Searches for another pod that may write to a claim; left out without an API server. */
  findWriter?: ((claimName: string) => Promise<WriterSearch>) | undefined;
  context: CommandContext;
}

type SourceSpec = DiskExport['spec']['source'];

interface SourceRow<Spec> {
  /** @returns mount point or block device, or undefined when this process does not serve the source */
  volumePath(spec: Spec, environment: Pick<SourceEnvironment, 'volumes'>): string | undefined;
  /** @returns why this process does not serve the source */
  refusal(spec: Spec): string;
  /** Requires that no other process may write to the source. @throws DiskliftError `SourceInUse` */
  requireNoWriter(spec: Spec, inUse: InUse, environment: SourceEnvironment): Promise<WritersKnown | undefined>;
}

const NEEDS_CONTROLLER = 'needs `disklift controller`; a sidecar serves claims only';

const SOURCE_KINDS: { [Key in SourceKey]: SourceRow<SourceSpecs[Key]> } = {
  persistentVolumeClaim: {
    volumePath: ({ claimName }, { volumes }) => volumes.get(claimName),
    refusal: ({ claimName }) =>
      `no process serves the claim ${claimName}; add it to the chart's \`volumes\`, or give its place by --volume ${claimName}=PATH. ` +
      `\`kubectl get pvc ${claimName}\` shows whether there is such a claim`,
    async requireNoWriter({ claimName }, inUse, { findWriter }) {
      if (findWriter === undefined || inUse === 'allow') return undefined;
      const found = await findWriter(claimName);
      if (found.kind === 'none') return { isFree: true };
      if (found.kind === 'unknown') return { isFree: false, why: found.why };
      throw new DiskliftError(
        'SourceInUse',
        `the claim ${claimName} is in use by ${found.who}; stop it, or read the disk as it is with inUse Allow`,
        undefined,
        { retryable: inUse === 'wait' },
      );
    },
  },
  volumeSnapshot: {
    volumePath: () => undefined,
    refusal: ({ name }) => `an export of the VolumeSnapshot ${name} ${NEEDS_CONTROLLER}`,
    requireNoWriter: async () => undefined,
  },
  virtualMachine: {
    volumePath: () => undefined,
    refusal: ({ name }) => `an export of the VirtualMachine ${name} ${NEEDS_CONTROLLER}`,
    requireNoWriter: async () => undefined,
  },
};

/** @returns the row of the source's kind and the part of the source that belongs to it */
function kindOf(source: SourceSpec): { row: SourceRow<unknown>; spec: unknown } {
  return ofSource(source, (key, spec) => ({ row: SOURCE_KINDS[key] as SourceRow<unknown>, spec }));
}

/** @returns why this process cannot run the export, or undefined when it can */
export function refusalOf({ spec: { source } }: DiskExport, environment: Pick<SourceEnvironment, 'volumes'>): string | undefined {
  const { row, spec } = kindOf(source);
  return row.volumePath(spec, environment) === undefined ? row.refusal(spec) : undefined;
}

export type SelectedDisk = NonNullable<SourceSpec['disks']>[number] & { volumePath: string };

export interface SourceDisks {
  disks: SelectedDisk[];
  /** One sentence for each file that may be a disk and is not sent. */
  leftOut: readonly string[];
}

/** Finds the disks that the request names, or else all disks of the volume. @throws DiskliftError `SourceNotFound` */
export async function findSourceDisks({ spec: { source } }: DiskExport, environment: SourceEnvironment): Promise<SourceDisks> {
  const { row, spec } = kindOf(source);
  const volumePath = row.volumePath(spec, environment);
  if (volumePath === undefined) throw new DiskliftError('SourceNotFound', row.refusal(spec));
  if (source.disks !== undefined) return { disks: await expanded(source.disks, volumePath), leftOut: [] };
  const { libc, warn } = environment.context;
  const found = await lookAtVolume(volumePath, libc);
  for (const remark of found.remarks) warn(`${volumePath}: ${remark}`);
  return { disks: found.disks.map((path) => ({ path, format: 'Auto', volumePath })), leftOut: found.leftOut };
}

/** Replaces a pattern by the files that match it. A file with an entry of its own keeps that entry. */
async function expanded(disks: NonNullable<SourceSpec['disks']>, volumePath: string): Promise<SelectedDisk[]> {
  const named = new Map(disks.filter(({ path }) => !isPattern(path)).map((disk) => [disk.path, disk]));
  for (const disk of disks.filter(({ path }) => isPattern(path)))
    for (const path of await matchDisks(volumePath, disk.path)) if (!named.has(path)) named.set(path, { ...disk, path });
  return [...named.values()].map((disk) => ({ ...disk, volumePath }));
}

const IN_USE = { Wait: 'wait', Fail: 'fail', Allow: 'allow' } as const satisfies Record<SourceSpec['inUse'], InUse>;

/** @throws DiskliftError as {@link openVolumeDisk}; `SourceInUse` when another pod may write to the source */
export async function openSourceDisk(
  { spec: { source, image } }: DiskExport,
  { volumePath, path, format }: SelectedDisk,
  environment: SourceEnvironment,
  signal: AbortSignal,
): Promise<DiskSource> {
  const { row, spec } = kindOf(source);
  const inUse = IN_USE[source.inUse];
  const writers = await row.requireNoWriter(spec, inUse, environment);
  const { context } = environment;
  return openVolumeDisk({ volumePath, path, format: image.layout === 'Verbatim' ? 'Raw' : format }, { ...context, signal, inUse, writers });
}
