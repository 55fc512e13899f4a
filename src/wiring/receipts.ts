/** Plans the receipt of a disk's image, and its base where the request asks for incremental images. */

import { abortable } from '../common/abortable.ts';
import { type Clock, timestamp } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { ArrivedImage, DiskPlan } from '../engine/contract.ts';
import { PROOFS } from '../engine/observer.ts';
import { backingNameOf, partsOfKey, partsOfUrlPath } from '../receipts/backing-name.ts';
import { chooseBase } from '../receipts/choose-base.ts';
import { confirmBase } from '../receipts/confirm-base.ts';
import type { BaseImage } from '../receipts/contract.ts';
import { blocksPlace, receiptPlace } from '../receipts/file-places.ts';
import type { DiskIdentity, ExportIdentity, ImageReceipt, ReceiptPoints } from '../receipts/receipt.ts';
import { imageTag, recordImage } from '../receipts/record-image.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { filePlace, placeOf } from '../resource/disk-place.ts';
import { quantityBytes } from '../resource/rules.ts';
import { isManifest, sourceObject, takesOtherFiles } from '../resource/source-kinds.ts';
import type { ChangesFrom, TrackedSource } from '../sources/changed/contract.ts';
import type { DestinationFiles, FileFacts } from '../targets/contract.ts';
import { changesRow } from './changes.ts';
import type { ChangesRow, OpenedChanges } from './changes-row.ts';
import { createFiles, type TargetEnvironment } from './destinations.ts';

type ReceiptPlan = Pick<DiskPlan, 'openSource' | 'incremental' | 'record'>;

interface ReceiptEnvironment extends TargetEnvironment {
  clock: Clock;
}

/** @param path in the status */
function wantsReceipt({ spec: { receipt, source, destination } }: DiskExport, path: string): boolean {
  return receipt !== false && takesOtherFiles(destination) && !isManifest(source, path);
}

export interface OwnChanges extends Pick<ChangesRow, 'open'> {
  from: ChangesFrom;
}

interface ReceiptDisk extends Pick<DiskPlan, 'path'> {
  /** Opens the disk without a map of changes. */
  openSource(signal: AbortSignal): Promise<TrackedSource>;
  /** The map that the source itself has. Absent where it has none. */
  ownChanges?: OwnChanges | undefined;
}

/**
 * @throws DiskliftError `InvalidRequest` for a request that cannot have incremental images
 */
export function composeReceipt(
  request: DiskExport,
  { path, openSource, ownChanges }: ReceiptDisk,
  environment: ReceiptEnvironment,
): ReceiptPlan {
  if (!wantsReceipt(request, path)) return { openSource };
  const { incremental } = request.spec;
  const place = filePlace(request, path);
  const files = () => createFiles(request, path, environment);
  const disk = diskIdentity(request, path);
  const own = exportIdentity(request);
  const tracker = incremental?.tracker === undefined ? undefined : placeOf(incremental.tracker, request, path);
  let opened: OpenedChanges | undefined;

  async function save(image: ArrivedImage, signal: AbortSignal): Promise<void> {
    const to = await abortable(files(), signal);
    if (image.kind === 'recorded') return recordImage({ files: to, receipt: image.receipt, tracker, isWritten: true }, signal);
    // A server that only takes files may read any request as a file: without a reason it is asked nothing.
    const seen = incremental === undefined ? image.receipt : await lookIfAllowed(to, place, signal);
    const points = (await opened?.savePoints(to, place, signal)) ?? {};
    const { sizeBytes, etag: sentTag } = image.receipt;
    // An HTTP server may answer to PUT with another notation than to GET.
    const etag = imageTag(isOfS3(request) ? { sizeBytes, etag: sentTag } : { sizeBytes }, seen);
    const time = timestamp(environment.clock.nowMs());
    const receipt = receiptOf(request, image, { place, disk, export: own, etag, points, time });
    await recordImage({ files: to, receipt, tracker, isWritten: false }, signal);
  }

  const record = request.spec.receipt === true || incremental !== undefined ? insist(save) : tolerate(save);
  const openWith = (open: ChangesRow['open']) => async (signal: AbortSignal, base?: BaseImage) => {
    opened = await open({ open: openSource, base, createFiles: files }, signal);
    return opened.source;
  };
  if (incremental === undefined) return { openSource: ownChanges === undefined ? openSource : openWith(ownChanges.open), record };
  requireFollowable(request, place);
  const isOwn = ownChanges !== undefined && (incremental.changes === 'Auto' || incremental.changes === ownChanges.from);
  const from = tracker === undefined ? { base: placeOf(incremental.base ?? '', request, path) } : { tracker };
  const pathOf = partsOf(request);
  return {
    openSource: openWith(isOwn ? ownChanges.open : changesRow(request, incremental).open),
    incremental: {
      fallback: incremental.fallback,
      chooseBase: async (signal) => chooseBase({ files: await files(), place, disk, export: own, from, pathOf }, signal),
      confirmBase: async (base, signal) => confirmBase(await files(), base, signal),
    },
    record,
  };
}

/** Credentials that may write need not be allowed to look. */
async function lookIfAllowed(files: DestinationFiles, place: string, signal: AbortSignal): Promise<FileFacts | undefined> {
  try {
    return await files.look(place, signal);
  } catch (error) {
    if (signal.aborted || !(error instanceof DiskliftError) || error.retryable) throw error;
    return undefined;
  }
}

type Save = (image: ArrivedImage, signal: AbortSignal) => Promise<void>;

function insist(save: Save): NonNullable<DiskPlan['record']> {
  return async (image, signal) => {
    await save(image, signal);
    return undefined;
  };
}

/** Credentials may permit the image's own key, and nothing else. */
function tolerate(save: Save): NonNullable<DiskPlan['record']> {
  return async (image, signal) => {
    try {
      await save(image, signal);
      return undefined;
    } catch (error) {
      if (signal.aborted || !(error instanceof DiskliftError) || error.retryable) throw error;
      return error.message;
    }
  };
}

function diskIdentity({ metadata, spec }: DiskExport, path: string): DiskIdentity {
  const { kind, name } = sourceObject(spec.source);
  return { namespace: metadata.namespace, source: { kind, name }, path };
}

function exportIdentity({ metadata: { name, uid, creationTimestamp = '' } }: DiskExport): ExportIdentity {
  const createdMs = Date.parse(creationTimestamp);
  return { name, uid, ...(Number.isNaN(createdMs) ? {} : { created: timestamp(createdMs) }) };
}

interface ReceiptFacts {
  place: string;
  disk: DiskIdentity;
  export: ExportIdentity;
  etag: string | undefined;
  points: ReceiptPoints;
  time: string;
}

function receiptOf(
  { spec, status: { consistency, snapshotTime } = {} }: DiskExport,
  { receipt, virtualBytes, dataClusters, readBytes, type, base, changedBytes }: Extract<ArrivedImage, { kind: 'sent' }>,
  { place, disk, export: own, etag, points, time }: ReceiptFacts,
): ImageReceipt {
  const { clusterSize, version, refcountBits, layout = 'Converted' } = spec.image;
  return {
    image: {
      place,
      sizeBytes: receipt.sizeBytes,
      ...(receipt.sha256 === undefined ? {} : { sha256: receipt.sha256 }),
      ...(etag === undefined ? {} : { etag }),
      proof: PROOFS[receipt.proof],
      virtualSizeBytes: virtualBytes,
      dataClusters,
      layout,
      options: { clusterSizeBytes: quantityBytes(clusterSize), version, refcountBits },
    },
    disk,
    export: own,
    time,
    ...(snapshotTime === undefined ? {} : { snapshotTime }),
    ...(consistency === undefined ? {} : { consistency }),
    type: type?.type ?? 'Full',
    ...(type === undefined ? {} : { reason: type.reason }),
    ...(changedBytes === undefined ? {} : { changedBytes }),
    readBytes,
    ...(base === undefined
      ? {}
      : { base: { place: base.place, sha256: base.sha256, sizeBytes: base.sizeBytes, virtualSizeBytes: base.virtualSizeBytes } }),
    points,
  };
}

function isOfS3({ spec }: DiskExport): boolean {
  return spec.destination.s3 !== undefined;
}

function partsOf(request: DiskExport): (place: string) => string[] {
  return isOfS3(request) ? partsOfKey : partsOfUrlPath;
}

const MAX_KEY_BYTES = 1024;

/** @throws DiskliftError `InvalidRequest` for a place from which no file name can lead to a base */
function requireFollowable(request: DiskExport, place: string): void {
  if (Buffer.byteLength(blocksPlace(place)) > MAX_KEY_BYTES)
    throw new DiskliftError('InvalidRequest', `spec.destination: with .blocks the key ${place} has more than ${MAX_KEY_BYTES} bytes`);
  const parts = partsOf(request)(place);
  if (backingNameOf(parts, [...parts.slice(0, -1), `${parts.at(-1)}`.slice(1) || 'base']) !== undefined) return;
  throw new DiskliftError(
    'InvalidRequest',
    `spec.destination: an incremental image names its base by a relative path, and no file system can have the path ${JSON.stringify(place)}`,
  );
}

/** Every place to which an export of this disk writes beside its image, with its name for people. */
export function otherPlaces(request: DiskExport, path: string): { disk: string; destination: string }[] {
  if (!wantsReceipt(request, path)) return [];
  const { incremental } = request.spec;
  const place = filePlace(request, path);
  return [
    { disk: `the receipt of ${path}`, destination: receiptPlace(place) },
    ...(incremental === undefined ? [] : [{ disk: `the block hashes of ${path}`, destination: blocksPlace(place) }]),
    ...(incremental?.tracker === undefined
      ? []
      : [{ disk: `the tracker of ${path}`, destination: placeOf(incremental.tracker, request, path) }]),
  ];
}
