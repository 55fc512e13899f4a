/** From a DiskExport to what the engine runs: its disks on a volume of this machine, and how each is sent. */

import { MIB } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { truncated } from '../common/text.ts';
import { arrivedAndGone } from '../engine/disk-status.ts';
import type { DiskPlan } from '../engine/run-disk.ts';
import type { ExportPlan } from '../engine/run-export.ts';
import { lookAtVolume } from '../formats/find-disks.ts';
import { openVolumeDisk } from '../formats/open-volume-disk.ts';
import { isBackupLayout } from '../formats/qcow2/unnamed-delta.ts';
import type { Verify } from '../image/prepare-image.ts';
import { destinationPlace } from '../resource/destination-kinds.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { requireDistinct } from '../resource/placeholders.ts';
import { quantityBytes } from '../resource/rules.ts';
import type { InUse, WritersKnown } from '../sources/disk-in-use.ts';
import { isPattern, matchDisks } from '../sources/match-disks.ts';
import type { WriterSearch } from '../stores/kubernetes/store/pod-writers.ts';
import type { CommandContext } from './context.ts';
import { createTarget, type TargetEnvironment } from './destinations.ts';

export interface ExportEnvironment extends TargetEnvironment {
  /** Where each claim is mounted, or its block device. */
  volumes: ReadonlyMap<string, string>;
  /** Who else could write to a claim; left out where nobody can be asked. */
  findWriter?: ((claimName: string) => Promise<WriterSearch>) | undefined;
  context: CommandContext;
  clock: Clock;
}

/** Buffers in flight of the whole process: five parts of 16 MiB, or fewer larger ones. */
export const BUFFER_BYTES = 80 * MIB;

/** Limits of the status. */
const MAX_DISKS = 64;
const MAX_PATH_CHARACTERS = 1024;

/** Why an export cannot be run here, or undefined when it can. */
export function refusalOf({ spec }: DiskExport, { volumes }: Pick<ExportEnvironment, 'volumes'>): string | undefined {
  const { claimName } = spec.source.persistentVolumeClaim;
  if (volumes.has(claimName)) return undefined;
  return (
    `no process serves the claim ${claimName}; add it to the chart's \`volumes\`, or give its place by --volume ${claimName}=PATH. ` +
    `\`kubectl get pvc ${claimName}\` shows whether there is such a claim`
  );
}

/** @throws DiskliftError when there is no such volume or disk, or when two disks would go to the same place */
export async function composePlan(request: DiskExport, environment: ExportEnvironment): Promise<ExportPlan> {
  const { source, checksum, backoffLimit, activeDeadlineSeconds } = request.spec;
  const volumePath = environment.volumes.get(source.persistentVolumeClaim.claimName);
  if (volumePath === undefined) throw new DiskliftError('SourceNotFound', refusalOf(request, environment) ?? '');
  const { disks, leftOut } = await disksOf(source, volumePath, environment);
  const paths = disks.map(({ path }) => path);
  // The status keeps their receipts, and no other disk may replace what they name.
  const all = [...paths, ...arrivedAndGone(paths, request.status)];
  if (all.length > MAX_DISKS)
    throw new DiskliftError(
      'InvalidRequest',
      `the export has ${all.length} disks, and one export takes ${MAX_DISKS} at most: name them in spec.source.disks`,
    );
  for (const path of paths) {
    requireRecordable(path);
    requireLayout(path, request.spec.image.layout);
  }
  requireDistinct(all.map((path) => ({ disk: path, destination: destinationPlace(request, path) })));
  return {
    checksum,
    backoffLimit,
    activeDeadlineSeconds,
    leftOut,
    disks: disks.map((disk) => composeDisk(request, { ...disk, volumePath }, environment)),
  };
}

type NamedDisks = NonNullable<DiskExport['spec']['source']['disks']>;

/** The disks that the request names, or else all disks of the volume, with a warning for each possible disk that is left out. */
async function disksOf(
  { disks }: DiskExport['spec']['source'],
  volumePath: string,
  { context: { libc, warn } }: ExportEnvironment,
): Promise<{ disks: NamedDisks; leftOut: readonly string[] }> {
  if (disks !== undefined) return { disks: await expanded(disks, volumePath), leftOut: [] };
  const found = await lookAtVolume(volumePath, libc);
  for (const remark of found.remarks) warn(`${volumePath}: ${remark}`);
  return { disks: found.disks.map((path) => ({ path, format: 'Auto' })), leftOut: found.leftOut };
}

/** A pattern stands for the files that match it. A file that has an entry of its own keeps that entry. */
async function expanded(disks: NamedDisks, volumePath: string): Promise<NamedDisks> {
  const named = new Map(disks.filter(({ path }) => !isPattern(path)).map((disk) => [disk.path, disk]));
  for (const disk of disks.filter(({ path }) => isPattern(path)))
    for (const path of await matchDisks(volumePath, disk.path)) if (!named.has(path)) named.set(path, { ...disk, path });
  return [...named.values()];
}

/** @throws DiskliftError `InvalidRequest` for a path that the status cannot name, as a pattern may find one */
function requireRecordable(path: string): void {
  if ([...path].length > MAX_PATH_CHARACTERS)
    throw new DiskliftError(
      'InvalidRequest',
      `${truncated(path, 100)}: the path has more than ${MAX_PATH_CHARACTERS} characters; move the disk to a shorter one`,
    );
}

/** @throws DiskliftError `InvalidRequest` for a file that may be a delta, unless the request names the layout */
function requireLayout(path: string, layout: DiskExport['spec']['image']['layout']): void {
  if (layout === undefined && isBackupLayout(path))
    throw new DiskliftError(
      'InvalidRequest',
      `${path}: lies where KubeVirt writes backups, and may be an incremental one; state spec.image.layout: Verbatim for the file as it is, or Converted`,
    );
}

/** What is needed to drop the uploads that the status tells of: destinations, and no volume. */
export async function composeLeftovers(request: DiskExport, environment: ExportEnvironment): Promise<ExportPlan> {
  const { checksum, backoffLimit } = request.spec;
  const disks = (request.status?.disks ?? []).filter(({ upload }) => upload !== undefined);
  return {
    checksum,
    backoffLimit,
    disks: disks.map(({ path }) => composeDisk(request, { path, format: 'Auto', volumePath: '' }, environment)),
  };
}

type Disk = NamedDisks[number] & { volumePath: string };

const IN_USE = { Wait: 'wait', Fail: 'fail', Allow: 'allow' } as const satisfies Record<string, InUse>;

function composeDisk(request: DiskExport, { path, format, volumePath }: Disk, environment: ExportEnvironment): DiskPlan {
  const { source, image } = request.spec;
  const { clusterSize, version, refcountBits, zeroDetection, layout } = image;
  return {
    path,
    layout,
    qcow2: { clusterSizeBytes: quantityBytes(clusterSize), version, refcountBits },
    zeroDetection: zeroDetection === 'Content' ? 'content' : 'extents',
    verify: verifyOf(request),
    async openSource(signal) {
      const inUse = IN_USE[source.inUse];
      const writers = await requireNoWriter(source.persistentVolumeClaim.claimName, inUse, environment);
      const { context, clock } = environment;
      return openVolumeDisk(
        { volumePath, path, format: layout === 'Verbatim' ? 'Raw' : format },
        { ...context, signal, clock, inUse, writers },
      );
    },
    createTarget: () => createTarget(request, path, environment),
  };
}

/** @throws DiskliftError `SourceInUse` */
async function requireNoWriter(
  claimName: string,
  inUse: InUse,
  { findWriter }: Pick<ExportEnvironment, 'findWriter'>,
): Promise<WritersKnown | undefined> {
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
}

/** A disk that may be in use is verified like one that has no times, where the scan reads it at all. */
function verifyOf({ spec: { source, image } }: DiskExport): Verify {
  if (source.verify === 'Always') return 'always';
  if (source.verify === 'Never') return 'never';
  return source.inUse === 'Allow' && image.zeroDetection === 'Content' ? 'always' : 'auto';
}
