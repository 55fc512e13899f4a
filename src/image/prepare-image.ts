/** From a disk to its virtual image: identity, scan, layout, and the check that the disk is unchanged. */

import { abortable } from '../common/abortable.ts';
import { alignUp } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { settleWithin } from '../common/time-limit.ts';
import { SECTOR_SIZE_BYTES } from '../qcow2/constants.ts';
import { type AllocationMap, fullAllocationMap } from '../qcow2/write/allocation-map.ts';
import type { Layout } from '../qcow2/write/layout.ts';
import { type Qcow2Options, validateOptions } from '../qcow2/write/options.ts';
import type { DataRecorder, TrackedSource } from '../sources/changed/contract.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { VirtualImage } from './contract.ts';
import type { BlockHashes } from './disk-blocks.ts';
import { IMAGE_LAYOUTS, type ImageLayout } from './image-layouts.ts';
import { type DeltaOptions, type ScanOptions, scanDisk, type ZeroDetection } from './scan.ts';
import { sealSource } from './seal.ts';
import { createVirtualImage } from './virtual-image.ts';

/**
 * Whether the data is read once more after the scan and compared. 'auto' compares disks whose identity does not show
 * writes, as block devices and files of most FUSE file systems.
 */
export type Verify = 'auto' | 'always' | 'never';

/** Choices of the user about an image. */
export interface ImageOptions {
  /** 'Converted' when left out. */
  layout?: ImageLayout | undefined;
  qcow2: Qcow2Options;
  zeroDetection: ZeroDetection;
  /** 'auto' when left out. 'always' needs zero detection by content. */
  verify?: Verify | undefined;
  /**
   * Size of the disk in the backing file, the same as now when left out. A disk that has grown since needs it, because
   * its new part may hold other bytes than zeros.
   */
  baseSizeBytes?: number | undefined;
}

export interface PrepareOptions extends ImageOptions {
  /** Opens the disk, for an image with a backing file also its map of changes. The prepared image owns it. */
  openSource(): Promise<TrackedSource>;
  signal: AbortSignal;
  clock: Clock;
  /** Receives one-line warnings; a warning does not stop the export. */
  warn(message: string): void;
  /** Called when the disk is open and its size and format are known. */
  onOpen?: ((diskSizeBytes: number, format: string, notice?: string) => void) | undefined;
  onScanned?: ((scannedBytes: number) => void) | undefined;
}

export interface PreparedImage extends AsyncDisposable {
  layout: Layout;
  image: VirtualImage;
  /** @throws DiskliftError `SourceChanged` when the disk has changed since the scan; the signal's reason, at once */
  seal(): Promise<void>;
}

/**
 * Opens, checks and scans a disk. The caller disposes the result.
 * @throws DiskliftError `InvalidRequest` for options that do not go together, `ImageTooLarge`, `SourceChanged`, the
 * failures of opening and reading the disk, `Cancelled`. The disk is closed then
 */
export async function prepareImage(options: PrepareOptions): Promise<PreparedImage> {
  validateOptions(options.qcow2);
  validateVerify(options);
  const source = await openUnlessAborted(options.openSource(), options.signal);
  try {
    layoutRules(options).checkDiskSize(source.sizeBytes, options.qcow2);
    deltaOf(source, options);
    if (source.notice !== undefined) options.warn(`${source.name}: ${source.notice}`);
    if (source.sizeBytes === 0 && source.format !== undefined)
      options.warn(`${source.name}: states a disk of 0 bytes, so the image holds nothing of its file; is it the right file?`);
    options.onOpen?.(source.sizeBytes, source.format ?? 'raw', source.notice);
    const prepared = await (isVerified(source, options) ? prepareVerified(source, options) : prepareTrusted(source, options));
    return { ...prepared, [Symbol.asyncDispose]: () => closeSource(source, options) };
  } catch (error) {
    await closeSource(source, options);
    throw error;
  }
}

/** Hanging storage must not keep a cancelled export. */
const CLOSE_GRACE_MS = 400;

/**
 * Never rejects. Lost storage fails the close as well; that failure concerns no bytes, and must not hide the first one.
 */
async function closeSource(source: DiskSource, { signal, clock }: PrepareOptions): Promise<void> {
  await settleWithin(source.dispose(), { signal, clock, graceMs: CLOSE_GRACE_MS }).catch(() => {});
}

type Parts = Omit<PreparedImage, typeof Symbol.asyncDispose>;

/** Prepares the image of a disk whose identity changes with every write. */
async function prepareTrusted(source: TrackedSource, options: PrepareOptions): Promise<Parts> {
  const identity = await abortable(source.identity(), options.signal);
  const layout = layoutRules(options).create(await mapOf(source, options), options.qcow2);
  // A disk that changed during the scan is refused before the first byte rather than at the last.
  const seal = () => sealSource(source, identity, options.signal);
  await seal();
  return { layout, image: createVirtualImage({ source, layout, identity }), seal };
}

/**
 * Facts that a hard link, a chmod or an extended attribute changes. Comparing the content finds a write behind them.
 */
const ATTRIBUTES_ALONE = ['ctime'];

/** Prepares the image of a disk whose content is compared in addition to its identity. */
async function prepareVerified(source: TrackedSource, options: PrepareOptions): Promise<Parts> {
  // Loaded when it is needed: most commands start sooner without it.
  const [{ createBlockHashes }, { verifyDisk }] = await Promise.all([import('./disk-blocks.ts'), import('./verify.ts')]);
  const identity = await abortable(source.identity(), options.signal);
  const hashes = createBlockHashes();
  const map = await mapOf(source, options, hashes);
  const layout = layoutRules(options).create(map, options.qcow2);
  await sealSource(source, identity, options.signal);
  const again = await openAgain(source, options.signal);
  // Before the first byte is sent: the peer must not wait for its last bytes while a large disk is read.
  if (options.qcow2.backingFile !== undefined) {
    const onProgress = () => options.onScanned?.(source.sizeBytes);
    await source.changed?.confirm?.(again, options.signal, onProgress);
  }
  const verified = verifyDisk({ source: again, map, hashes });
  // With the content in the fingerprint, no process resumes a transfer that began before the disk was written to.
  const image = createVirtualImage({ source: verified, layout, identity: { ...identity, content: hashes.digest() } });
  return {
    layout,
    image,
    async seal() {
      await verified.finish(options.signal);
      await sealSource(source, identity, options.signal, ATTRIBUTES_ALONE);
    },
  };
}

async function openAgain(source: DiskSource, signal: AbortSignal): Promise<DiskSource> {
  const again = source.openAgain === undefined ? source : await abortable(source.openAgain(signal), signal);
  if (again.sizeBytes === source.sizeBytes) return again;
  throw new DiskliftError(
    'SourceChanged',
    `${source.name}: has ${again.sizeBytes} bytes now, and had ${source.sizeBytes}; stop its writer and try again`,
  );
}

function validateVerify({ verify, zeroDetection }: PrepareOptions): void {
  if (verify === 'always' && zeroDetection === 'extents')
    throw new DiskliftError(
      'InvalidRequest',
      'verifying compares what the scan has read with what is read later, so it needs zero detection by content, not by extents',
    );
}

function isVerified(source: DiskSource, { verify = 'auto', zeroDetection, qcow2, warn }: PrepareOptions): boolean {
  // Nothing reads a raw external data file, and the image describes none of its content.
  if (verify === 'never' || qcow2.dataFile?.raw === true) return false;
  if (verify === 'always') return true;
  if (source.identityMissesWrites !== true) return false;
  if (zeroDetection === 'extents')
    warn(`${source.name}: --zero-detection extents reads it once only, so a write to it meanwhile will go unnoticed`);
  return zeroDetection === 'content';
}

function layoutRules({ layout = 'Converted' }: ImageOptions) {
  return IMAGE_LAYOUTS[layout];
}

/**
 * @returns undefined for an image without a backing file
 * @throws DiskliftError `InvalidRequest` where the source cannot make the delta; `ChangesRefused` for the map of
 * another base
 */
function deltaOf({ name, sizeBytes, changed }: TrackedSource, options: PrepareOptions): DeltaOptions | undefined {
  if (options.qcow2.backingFile === undefined) return undefined;
  if (changed === undefined)
    throw new DiskliftError('InvalidRequest', `${name}: an image on a base needs a source that reports what has changed since the base`);
  const statedBytes = options.baseSizeBytes ?? changed.baseSizeBytes ?? sizeBytes;
  const baseSizeBytes = changed.baseSizeBytes ?? statedBytes;
  // The base is an image, which has whole sectors; the disk that it shows may end inside one.
  if (alignUp(baseSizeBytes, SECTOR_SIZE_BYTES) !== alignUp(statedBytes, SECTOR_SIZE_BYTES))
    throw new DiskliftError(
      'ChangesRefused',
      `${name}: its base has ${statedBytes} bytes, and the map of changes counts from a disk of ${changed.baseSizeBytes}; is it the map of this base?`,
    );
  if (baseSizeBytes > sizeBytes)
    throw new DiskliftError(
      'InvalidRequest',
      `${name}: has ${sizeBytes} bytes, fewer than the ${baseSizeBytes} of its base; the map of changes does not show what a disk has lost, so make a full image`,
    );
  return { changed, baseSizeBytes };
}

async function mapOf(source: TrackedSource, options: PrepareOptions, hashes?: BlockHashes): Promise<AllocationMap> {
  const { clusterSizeBytes, dataFile } = options.qcow2;
  // In a raw external data file every cluster is mapped to itself, so no scan is needed.
  if (dataFile?.raw === true) return fullAllocationMap(source.sizeBytes, clusterSizeBytes);
  const { signal, onScanned } = options;
  const delta = deltaOf(source, options);
  const recorder = delta === undefined ? source.recorder : undefined;
  // An image that keeps zeros needs no content scan, except for the hashes that verification compares.
  const { dropsZeros } = layoutRules(options);
  const zeroDetection = dropsZeros || hashes !== undefined ? options.zeroDetection : 'extents';
  if (recorder !== undefined) requireWholeReading(source, { zeroDetection, isVerified: hashes !== undefined });
  recorder?.begin();
  const onData = onDataOf(hashes, recorder);
  const map = await scanDisk({ source, clusterSizeBytes, zeroDetection, signal, onProgress: onScanned, onData, delta });
  await recorder?.finish();
  if (delta === undefined && dropsZeros && zeroDetection === 'extents' && map.clusters.total > 0 && map.clusters.hole === 0)
    options.warn(`${source.name}: no holes found, so the image holds the whole disk; --zero-detection content finds zeros by reading`);
  return map;
}

/**
 * Hashes of bytes that the image does not have would spoil every delta that stands on it.
 * @throws DiskliftError `InvalidRequest`
 */
function requireWholeReading(
  { name, identityMissesWrites }: DiskSource,
  { zeroDetection, isVerified }: { zeroDetection: ZeroDetection; isVerified: boolean },
): void {
  if (zeroDetection === 'extents')
    throw new DiskliftError(
      'InvalidRequest',
      `${name}: block hashes need a scan that reads the data: zero detection by content, and no verbatim image`,
    );
  if (identityMissesWrites === true && !isVerified)
    throw new DiskliftError(
      'InvalidRequest',
      `${name}: block hashes need the disk to be compared, because it does not show writes; allow verify`,
    );
}

function onDataOf(hashes: BlockHashes | undefined, recorder: DataRecorder | undefined): ScanOptions['onData'] {
  if (recorder === undefined) return hashes?.add;
  return (bytes, offset) => {
    hashes?.add(bytes, offset);
    return recorder.add(bytes, offset);
  };
}

/**
 * Waits for the disk or for `signal`. A disk that hanging storage opens after the abort is closed at once.
 * @throws the failure of `opening`; the signal's reason (DiskliftError), at once
 */
export async function openUnlessAborted<Source extends DiskSource>(opening: Promise<Source>, signal: AbortSignal): Promise<Source> {
  try {
    return await abortable(opening, signal);
  } catch (error) {
    if (signal.aborted)
      opening
        .then((source) => source.dispose())
        // No caller waits for this result any more.
        .catch(() => {});
    throw error;
  }
}
