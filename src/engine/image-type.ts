/** Whether the image of a disk is full or incremental: its source, its options, and the facts that the state keeps. */

import { DiskliftError } from '../common/errors.ts';
import type { PreparedImage, PrepareOptions } from '../image/prepare-image.ts';
import type { BaseImage, ImageType } from '../receipts/contract.ts';
import type { ImageReceipt } from '../receipts/receipt.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import type { ArrivedImage, DiskPlan } from './contract.ts';
import { type DiskState, type ExportObserver, proofOf } from './observer.ts';

/** Reports the type once, and again when another attempt makes an image of another type. */
export function setImageType(state: DiskState, type: ImageType, observer: ExportObserver): void {
  const before = state.imageType;
  state.imageType = type;
  if (before?.type !== type.type || before.reason !== type.reason) observer.onImageType?.(state, type);
}

/**
 * Opens the disk with the map of its changes since the base.
 * @throws DiskliftError `DiskShrank`, `ChangesMissing`; and as {@link DiskPlan.openSource}. The disk is closed then
 */
export async function openOnBase(
  { openSource }: Pick<DiskPlan, 'openSource'>,
  base: BaseImage,
  signal: AbortSignal,
): Promise<TrackedSource> {
  const source = await openSource(signal, base);
  const failure = failureOn(base, source);
  if (failure === undefined) return source;
  await source.dispose();
  throw failure;
}

function failureOn(base: BaseImage, { name, sizeBytes, changed, changesFrom }: TrackedSource): DiskliftError | undefined {
  // An image has whole sectors. The map has the exact size of the disk that the base shows.
  const baseSizeBytes = changed?.baseSizeBytes ?? base.virtualSizeBytes;
  if (sizeBytes < baseSizeBytes)
    return new DiskliftError(
      'DiskShrank',
      `${name}: has ${sizeBytes} bytes, and had ${baseSizeBytes} in the base ${base.location}; no map shows what a disk has lost`,
    );
  if (changed === undefined || changesFrom === undefined)
    return new DiskliftError('ChangesMissing', `${name}: nothing shows what has changed since the base ${base.location}`);
  return undefined;
}

/** With the base in the identity, no process resumes an upload of the same changes on another base. */
export function withBase(source: TrackedSource, base: BaseImage): TrackedSource {
  return { ...source, identity: async () => ({ ...(await source.identity()), base: base.sha256 }) };
}

/** Options of the image where they depend on its base. */
export function deltaOptions({ qcow2 }: Pick<DiskPlan, 'qcow2'>, base?: BaseImage): Pick<PrepareOptions, 'qcow2' | 'baseSizeBytes'> {
  if (base === undefined) return { qcow2 };
  return { qcow2: { ...qcow2, backingFile: { name: base.backingName, format: 'qcow2' } }, baseSizeBytes: base.virtualSizeBytes };
}

/** @returns bytes of the disk that an incremental image holds, zeros included */
export function changedBytesOf({ map }: PreparedImage['layout']): number {
  const { total, unchanged = 0 } = map.clusters;
  const lastUnchanged = total > 0 && map.rangeAt(map.rangeCount - 1).kind === 'unchanged';
  const missingBytes = total * map.clusterSizeBytes - map.diskSizeBytes;
  return (total - unchanged) * map.clusterSizeBytes - (lastUnchanged ? 0 : missingBytes);
}

/** Fills the state of a disk whose image an earlier run of this export has brought to the destination and recorded. */
export function restoreRecorded(state: DiskState, receipt: ImageReceipt, location: string): ArrivedImage {
  const { image, type, reason, base, changedBytes } = receipt;
  state.virtualBytes = image.virtualSizeBytes;
  state.scannedBytes = image.virtualSizeBytes;
  state.imageBytes = image.sizeBytes;
  state.sentBytes = image.sizeBytes;
  state.metadataBytes = image.sizeBytes - image.dataClusters * state.clusterSizeBytes;
  const total = Math.ceil(image.virtualSizeBytes / state.clusterSizeBytes);
  state.clusters = { total, data: image.dataClusters, hole: total - image.dataClusters, zero: 0 };
  state.receipt = {
    location,
    sizeBytes: image.sizeBytes,
    proof: proofOf(image.proof),
    ...(image.etag === undefined ? {} : { etag: image.etag }),
    ...(image.sha256 === undefined ? {} : { sha256: image.sha256 }),
  };
  if (changedBytes !== undefined) state.changedBytes = changedBytes;
  state.imageType = (
    type === 'Full'
      ? { type, reason, message: 'as its receipt says' }
      : { type, reason, base: { location: base?.place, sha256: base?.sha256 } }
  ) as ImageType;
  return { kind: 'recorded', receipt };
}
