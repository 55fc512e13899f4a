/** Chooses the base of an image from the tracker, its receipt and a look at the base itself. */

import { DiskliftError } from '../common/errors.ts';
import type { DestinationFiles } from '../targets/contract.ts';
import { backingNameOf } from './backing-name.ts';
import { confirmBase, confirmChain, type ExpectedBase } from './confirm-base.ts';
import type { BaseChoice, BaseImage } from './contract.ts';
import { receiptPlace } from './file-places.ts';
import { invalidReceipt, readReceipt } from './read-receipt.ts';
import { type DiskIdentity, type ExportIdentity, type ImageReceipt, MAX_RECEIPT_BYTES, parseReceipt } from './receipt.ts';
import { MAX_TRACKER_BYTES, parseTracker, type Tracker } from './tracker.ts';

export interface BaseSearch {
  files: DestinationFiles;
  /** Place of the new image. */
  place: string;
  disk: DiskIdentity;
  export: ExportIdentity;
  /** Place of the base, or of the tracker that names it. */
  from: { base: string } | { tracker: string };
  /** @returns the parts of a place as names of a file system */
  pathOf(place: string): readonly string[];
}

/**
 * @throws DiskliftError a code of {@link BASE_FAILURES} where no base can be used; `InvalidRequest` where the new image
 * would replace an image of another export; the codes of {@link DestinationFiles}
 */
export async function chooseBase(search: BaseSearch, signal: AbortSignal): Promise<BaseChoice> {
  const recorded = await findRecorded(search, signal);
  if (recorded !== undefined) return { kind: 'recorded', receipt: recorded, location: search.files.location(search.place) };
  const named = 'base' in search.from ? { place: search.from.base } : await readTracker(search, search.from.tracker, signal);
  if (named === undefined) return { kind: 'full', reason: 'FirstImage', message: 'the tracker does not exist yet' };
  return { kind: 'incremental', base: await withPlace(named, () => readBase(search, named, signal)) };
}

/** A tracker is a file of the destination, and may name anything. The place of a request is the author's own. */
async function withPlace<T>({ sha256 }: Named, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (sha256 === undefined || !(error instanceof DiskliftError) || error.code !== 'InvalidRequest') throw error;
    throw new DiskliftError('ReceiptInvalid', `the tracker names a place that cannot be used: ${error.message}`, error);
  }
}

/**
 * An image that has its receipt may be the base of others, so nothing replaces it.
 * @returns the receipt of this export, where an earlier run of it has got so far
 */
async function findRecorded({ files, place, disk, export: own }: BaseSearch, signal: AbortSignal): Promise<ImageReceipt | undefined> {
  const file = receiptPlace(place);
  const found = await files.read(file, MAX_RECEIPT_BYTES, signal);
  if (found === undefined) return undefined;
  const parsed = parseReceipt(found.bytes);
  if ('problem' in parsed) throw replaced(files.location(file), `a file that ${parsed.problem}`);
  const receipt = parsed.value;
  const isOwn = receipt.export.uid === own.uid && own.created !== undefined && receipt.export.created === own.created;
  if (!isOwn || !isSameDisk(receipt.disk, disk) || receipt.image.place !== place)
    throw replaced(files.location(place), `an image of the export ${receipt.export.name}`);
  // Somebody has removed or replaced the image: it is made again.
  return (await isThere(files, receipt.image, signal)) ? receipt : undefined;
}

function replaced(where: string, what: string): DiskliftError {
  return new DiskliftError(
    'InvalidRequest',
    `${where}: is the place of ${what}, and other images may need it; put {timestamp}, {scheduledTime} or {uid} into the key`,
  );
}

type Named = { place: string; sha256?: string };

async function readTracker({ files, disk }: BaseSearch, place: string, signal: AbortSignal): Promise<Named | undefined> {
  const where = files.location(place);
  const found = await files.read(place, MAX_TRACKER_BYTES, signal);
  if (found === undefined) return undefined;
  const parsed = parseTracker(found.bytes);
  if ('problem' in parsed) throw new DiskliftError('ReceiptInvalid', `the tracker ${where}: ${parsed.problem}`);
  const tracker: Tracker = parsed.value;
  if (!isSameDisk(tracker.disk, disk)) throw otherDisk(`the tracker ${where}`, tracker.disk);
  return tracker.image;
}

async function readBase(search: BaseSearch, named: Named, signal: AbortSignal): Promise<BaseImage> {
  const { files, disk, place: ownPlace, pathOf } = search;
  const location = files.location(named.place);
  const { image, disk: baseDisk, points, base: below } = await readReceipt(files, named.place, signal);
  if (image.layout !== 'Converted') throw invalidReceipt(location, 'is of a copy of a file, and not of a qcow2 image');
  if (!isSameDisk(baseDisk, disk)) throw otherDisk(`the base ${location}`, baseDisk);
  if (named.sha256 !== undefined && named.sha256 !== image.sha256)
    throw new DiskliftError('BaseChanged', `the base ${location}: its SHA-256 is another one than in the tracker`);
  const backingName = backingNameOf(pathOf(ownPlace), pathOf(image.place));
  if (backingName === undefined) throw invalidReceipt(location, 'is of an image whose place no file system can follow from the new image');
  const { place, sha256, etag, sizeBytes, virtualSizeBytes } = image;
  const base = { place, sha256, etag, sizeBytes, virtualSizeBytes, location, backingName, points };
  await confirmBase(files, base, signal);
  await confirmChain(files, below, signal);
  return base;
}

function otherDisk(what: string, { namespace, source, path }: DiskIdentity): DiskliftError {
  return new DiskliftError('OtherDisk', `${what} is of another disk: ${path} of the ${source.kind} ${source.name} in ${namespace}`);
}

/** Sources that have another name in each export of the same disk. */
const NAMED_ANEW: ReadonlySet<string> = new Set(['VolumeSnapshot', 'VirtualMachineBackup']);

function isSameDisk(a: DiskIdentity, b: DiskIdentity): boolean {
  if (a.namespace !== b.namespace || a.path !== b.path || a.source.kind !== b.source.kind) return false;
  return a.source.name === b.source.name || NAMED_ANEW.has(a.source.kind);
}

async function isThere(files: DestinationFiles, image: ExpectedBase, signal: AbortSignal): Promise<boolean> {
  try {
    await confirmBase(files, image, signal);
    return true;
  } catch (error) {
    if (error instanceof DiskliftError && (error.code === 'BaseMissing' || error.code === 'BaseChanged')) return false;
    throw error;
  }
}
