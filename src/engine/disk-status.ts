/** The status of one disk: written from its state, and read back by the process that continues the export. */

import { DiskliftError, type ErrorCode } from '../common/errors.ts';
import type { FullReason } from '../receipts/contract.ts';
import type { DiskExportStatus, DiskStatus } from '../resource/disk-export.ts';
import type { ChangesFrom } from '../sources/changed/contract.ts';
import type { DiskPlan, ExportPlan } from './contract.ts';
import { countClusters, type DiskState, newDiskState, type Phase, proofOf, receiptFacts } from './observer.ts';

export function diskStatusOf(disk: DiskState): DiskStatus {
  const { path, phase, format, virtualBytes, imageBytes, sentBytes, attempts, receipt, failure, upload } = disk;
  return {
    path,
    ...(format === undefined ? {} : { format }),
    phase,
    ...(virtualBytes === undefined ? {} : { virtualBytes }),
    ...(imageBytes === undefined ? {} : { imageBytes }),
    sentBytes,
    attempts,
    ...(virtualBytes === undefined ? {} : { clusters: clusterStatusOf(disk) }),
    ...(receipt === undefined ? {} : receiptFacts(receipt)),
    ...typeFacts(disk),
    ...(failure === undefined || phase === 'Succeeded' ? {} : { reason: failure.code, message: failure.message }),
    ...(upload === undefined ? {} : { upload: { id: upload.id, partSize: upload.partSizeBytes, fingerprint: upload.fingerprint } }),
  };
}

/** Only in exports that ask for incremental images. */
function typeFacts({
  imageType,
  changedBytes,
  readBytes,
}: DiskState): Pick<DiskStatus, 'type' | 'typeReason' | 'changedBytes' | 'readBytes' | 'base'> {
  if (imageType === undefined) return {};
  const { type, reason: typeReason } = imageType;
  if (type === 'Full') return { type, typeReason, readBytes };
  const { location, sha256 } = imageType.base;
  return { type, typeReason, ...(changedBytes === undefined ? {} : { changedBytes }), readBytes, base: { location, sha256 } };
}

/** @returns undefined for a status without a type, or with one of a later version */
function imageTypeOf({ type, typeReason, base }: DiskStatus): Pick<DiskState, 'imageType'> {
  if (type === undefined || typeReason === undefined) return {};
  if (type === 'Full') return { imageType: { type, reason: typeReason as FullReason, message: 'as an earlier status says' } };
  return base === undefined ? {} : { imageType: { type, reason: typeReason as ChangesFrom, base } };
}

function clusterStatusOf(disk: DiskState): NonNullable<DiskStatus['clusters']> {
  const { total, scanned, skipped, written } = countClusters(disk);
  return { total, scanned, skipped, written };
}

const ACTIVE: ReadonlySet<string | undefined> = new Set(['Scanning', 'Streaming', 'Verifying'] satisfies Phase[]);

/**
 * The state of a disk whose status another process has written. A disk that has ended stays so. Any other disk begins
 * again with the upload that is open at its destination; the attempt that was interrupted does not count.
 */
export function restoreDiskState(fresh: DiskState, status: DiskExportStatus | undefined): DiskState {
  const disk = status?.disks?.find(({ path }) => path === fresh.path);
  // A run that was lost with its process may have sent more than its last status says.
  const wasLost = status?.unfinishedRuns !== undefined;
  if (disk === undefined) return wasLost ? { ...fresh, mayHaveSent: true } : fresh;
  const { phase, attempts = 0, sentBytes = 0, upload, format, virtualBytes, imageBytes } = disk;
  const restored: DiskState = {
    ...fresh,
    ...(wasLost || attempts > 0 || sentBytes > 0 ? { mayHaveSent: true } : {}),
    attempts: ACTIVE.has(phase) ? Math.max(0, attempts - 1) : attempts,
    ...(upload === undefined ? {} : { upload: { id: upload.id, partSizeBytes: upload.partSize, fingerprint: upload.fingerprint } }),
  };
  const sizes = {
    ...(format === undefined ? {} : { format }),
    ...(virtualBytes === undefined ? {} : { virtualBytes, scannedBytes: virtualBytes }),
    ...(imageBytes === undefined ? {} : { imageBytes }),
  };
  if (phase === 'Succeeded') return { ...restored, ...sizes, ...arrived(disk, fresh) };
  if (phase === 'Failed' || phase === 'Cancelled') {
    const { reason = phase === 'Failed' ? 'DestinationUnreachable' : 'Cancelled', message = phase } = disk;
    return { ...restored, ...sizes, phase, sentBytes: disk.sentBytes ?? 0, failure: new DiskliftError(reason as ErrorCode, message) };
  }
  return restored;
}

/** Paths of disks that have arrived and are no longer on the volume. Their receipts stay in the status. */
export function arrivedAndGone(paths: readonly string[], status: DiskExportStatus | undefined): string[] {
  return (status?.disks ?? []).flatMap(({ path, phase }) => (phase === 'Succeeded' && !paths.includes(path) ? [path] : []));
}

/**
 * After a restart, an export that lists no disks searches the volume again. It must not succeed without a disk that it
 * had started.
 * @param paths of the disks that exist now
 * @throws DiskliftError `SourceNotFound`
 */
function requireEarlierDisks(paths: readonly string[], status: DiskExportStatus | undefined): void {
  const lost = status?.disks?.find(({ path, phase }) => phase !== 'Succeeded' && !paths.includes(path));
  if (lost === undefined) return;
  throw new DiskliftError(
    'SourceNotFound',
    `${lost.path}: was a disk of this export before the restart, has not arrived, and is missing now; put it back, or export the other disks in a new request`,
  );
}

/**
 * @returns states of the plan's disks, and of disks that have arrived and are gone
 * @throws DiskliftError `SourceNotFound`
 */
export function restoreDisks(plan: ExportPlan, status: DiskExportStatus | undefined): Record<'states' | 'gone', DiskState[]> {
  const paths = plan.disks.map(({ path }) => path);
  requireEarlierDisks(paths, status);
  const restore = (disk: Pick<DiskPlan, 'path' | 'qcow2'>) => restoreDiskState(newDiskState(disk), status);
  const gone = arrivedAndGone(paths, status);
  return {
    states: plan.disks.map(restore),
    gone: plan.disks.slice(0, 1).flatMap(({ qcow2 }) => gone.map((path) => restore({ path, qcow2 }))),
  };
}

function arrived(disk: DiskStatus, { clusterSizeBytes }: DiskState): Partial<DiskState> {
  const { imageBytes = 0, clusters, location = '', etag, sha256, proof, changedBytes, readBytes } = disk;
  return {
    phase: 'Succeeded',
    ...imageTypeOf(disk),
    ...(changedBytes === undefined ? {} : { changedBytes }),
    ...(readBytes === undefined ? {} : { readBytes }),
    sentBytes: imageBytes,
    // All bytes of the image that are not data.
    metadataBytes: imageBytes - (clusters?.written ?? 0) * clusterSizeBytes,
    ...(clusters === undefined ? {} : { clusters: { total: clusters.total, data: clusters.written, hole: clusters.skipped, zero: 0 } }),
    receipt: {
      location,
      sizeBytes: imageBytes,
      ...(etag === undefined ? {} : { etag }),
      ...(sha256 === undefined ? {} : { sha256 }),
      proof: proofOf(proof),
    },
  };
}
