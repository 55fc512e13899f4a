/** Plans an export for the engine: its disks on volumes of this machine, and a target for each. */

import { MIB } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { truncated } from '../common/text.ts';
import type { DiskPlan, ExportPlan } from '../engine/contract.ts';
import { arrivedAndGone } from '../engine/disk-status.ts';
import { isBackupLayout } from '../formats/qcow2/unnamed-delta.ts';
import type { Verify } from '../image/prepare-image.ts';
import { destinationPlace } from '../resource/destination-kinds.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { filePlace } from '../resource/disk-place.ts';
import { requireDistinct } from '../resource/placeholders.ts';
import { quantityBytes } from '../resource/rules.ts';
import { takesOtherFiles, VM_MANIFEST } from '../resource/source-kinds.ts';
import { type BackupEnvironment, findBackupDisks } from './backup-disks.ts';
import type { ChangesRow } from './changes-row.ts';
import { createTarget, type TargetEnvironment } from './destinations.ts';
import { composeReceipt, otherPlaces } from './receipts.ts';
import { snapshotChanges } from './snapshot-changes.ts';
import { findSourceDisks, openManifest, openSourceDisk, type SelectedDisk, type SourceEnvironment } from './sources.ts';

export interface ExportEnvironment extends TargetEnvironment, SourceEnvironment, Pick<BackupEnvironment, 'backups' | 'clusterAccess'> {
  clock: Clock;
}

/** Buffers in flight of the whole process: five parts of 16 MiB, or fewer larger ones. */
export const BUFFER_BYTES = 80 * MIB;

/** Limits of the status. */
const MAX_DISKS = 64;
const MAX_PATH_CHARACTERS = 1024;

/** @throws DiskliftError when a volume or a disk is missing, or when two disks have the same destination */
export async function composePlan(request: DiskExport, environment: ExportEnvironment): Promise<ExportPlan> {
  const { checksum, backoffLimit, activeDeadlineSeconds, image } = request.spec;
  const found = await findSourceDisks(request, environment);
  const disks = [
    ...found.disks.map((disk) => composeVolumeDisk(request, disk, environment)),
    ...(await composeBackup(request, environment)),
    ...composeManifest(request, environment),
  ];
  const paths = disks.map(({ path }) => path);
  // The status keeps the receipts of disks that are gone, and no other disk may replace their images.
  const all = [...paths, ...arrivedAndGone(paths, request.status)];
  if (all.length > MAX_DISKS)
    throw new DiskliftError(
      'InvalidRequest',
      `the export has ${all.length} disks, and one export takes ${MAX_DISKS} at most: name them in spec.source.disks`,
    );
  for (const path of paths) requireRecordable(path);
  for (const { file } of found.disks) requireLayout(file, image.layout);
  requireDistinct(all.flatMap((path) => [{ disk: path, destination: imagePlace(request, path) }, ...otherPlaces(request, path)]));
  return { checksum, backoffLimit, activeDeadlineSeconds, leftOut: found.leftOut, disks };
}

/** One notation for an image and for what lies beside images, so that equal places are found. */
function imagePlace(request: DiskExport, path: string): string {
  return takesOtherFiles(request.spec.destination) ? filePlace(request, path) : destinationPlace(request, path);
}

/** @throws DiskliftError `InvalidRequest` for a path that the status cannot name; a pattern may find one */
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

/** Plans only the targets that are needed to abort the uploads that the status names. Needs no volume. */
export async function composeLeftovers(request: DiskExport, environment: ExportEnvironment): Promise<ExportPlan> {
  const { checksum, backoffLimit } = request.spec;
  const disks = (request.status?.disks ?? []).filter(({ upload }) => upload !== undefined);
  return {
    checksum,
    backoffLimit,
    disks: disks.map(({ path }) => composeDisk(request, path, environment, () => Promise.reject(new Error(`${path} is not opened`)))),
  };
}

function composeVolumeDisk(request: DiskExport, disk: SelectedDisk, environment: ExportEnvironment): DiskPlan {
  const { path } = disk;
  const open: DiskPlan['openSource'] = (signal) => openSourceDisk(request, disk, environment, signal);
  const own = snapshotChanges(request, environment);
  const isFull = request.spec.incremental === undefined;
  const openSource = isFull && own !== undefined ? (signal: AbortSignal) => own.openFull(open, signal) : open;
  const ownChanges = isFull ? undefined : own;
  return {
    ...composeDisk(request, path, environment, openSource),
    ...composeReceipt(request, { path, openSource, ownChanges }, environment),
  };
}

/** The volumes of a backup that KubeVirt serves. */
async function composeBackup(request: DiskExport, environment: ExportEnvironment): Promise<DiskPlan[]> {
  if (request.spec.source.virtualMachineBackup === undefined) return [];
  const disks = await findBackupDisks(request, environment, environment.context.signal);
  return disks.map((disk) => {
    const { path } = disk;
    const openSource: DiskPlan['openSource'] = (signal) => disk.openSource(signal);
    const open: ChangesRow['open'] = async ({ base }, signal) => ({
      source: await disk.openSource(signal, base),
      savePoints: async () => disk.points,
    });
    const receipt = composeReceipt(request, { path, openSource, ownChanges: { from: 'VirtualMachineBackup', open } }, environment);
    return { ...composeDisk(request, path, environment, openSource), ...receipt };
  });
}

/** vm.yaml goes to the destination like a disk, as the file's own bytes. */
function composeManifest(request: DiskExport, environment: ExportEnvironment): DiskPlan[] {
  const { virtualMachine } = request.spec.source;
  const file = environment.worker?.manifestFile;
  if (virtualMachine === undefined || file === undefined) return [];
  if (virtualMachine.manifest === false || !takesOtherFiles(request.spec.destination)) return [];
  const disk = composeDisk(request, VM_MANIFEST, environment, (signal) => openManifest(file, environment, signal));
  return [{ ...disk, layout: 'Verbatim' }];
}

function composeDisk(request: DiskExport, path: string, environment: ExportEnvironment, openSource: DiskPlan['openSource']): DiskPlan {
  const { clusterSize, version, refcountBits, zeroDetection, layout } = request.spec.image;
  return {
    path,
    layout,
    qcow2: { clusterSizeBytes: quantityBytes(clusterSize), version, refcountBits },
    zeroDetection: zeroDetection === 'Content' ? 'content' : 'extents',
    verify: verifyOf(request),
    openSource,
    createTarget: () => createTarget(request, path, environment),
  };
}

/** Auto verifies a disk that may be in use like a disk without times, provided that the scan reads its data. */
function verifyOf({ spec: { source, image } }: DiskExport): Verify {
  if (source.verify === 'Always') return 'always';
  if (source.verify === 'Never') return 'never';
  return source.inUse === 'Allow' && image.zeroDetection === 'Content' ? 'always' : 'auto';
}
