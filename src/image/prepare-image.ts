/** From a disk to its virtual image: identity, scan, layout, and the seal that holds them together. */

import { abortable } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { settleWithin } from '../common/time-limit.ts';
import { checkL1TableSize } from '../qcow2/limits.ts';
import { type AllocationMap, fullAllocationMap } from '../qcow2/write/allocation-map.ts';
import { createLayout, type Layout } from '../qcow2/write/layout.ts';
import { type Qcow2Options, validateOptions } from '../qcow2/write/options.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { BlockHashes } from './block-hashes.ts';
import type { VirtualImage } from './contract.ts';
import { openUnlessAborted } from './open-source.ts';
import { scanDisk, type ZeroDetection } from './scan.ts';
import { sealSource } from './seal.ts';
import { createVerbatimLayout } from './verbatim-layout.ts';
import { createVirtualImage } from './virtual-image.ts';

/**
 * Whether the data is read once more after the scan and compared. 'auto' does so where the disk's identity does not show writes, as
 * with block devices and most FUSE file systems.
 */
export type Verify = 'auto' | 'always' | 'never';

/** 'Converted': the disk as qcow2; 'Verbatim': the file's own bytes, whatever its format. */
export type ImageLayout = 'Converted' | 'Verbatim';

/** What a user may choose about an image. */
export interface ImageOptions {
  /** 'Converted' when left out. */
  layout?: ImageLayout | undefined;
  qcow2: Qcow2Options;
  zeroDetection: ZeroDetection;
  /** 'auto' when left out. 'always' needs zero detection by content. */
  verify?: Verify | undefined;
}

export interface PrepareOptions extends ImageOptions {
  /** Opens the disk. The prepared image owns it. */
  openSource(): Promise<DiskSource>;
  signal: AbortSignal;
  clock: Clock;
  /** Takes one line about what is worth knowing but stops nothing. */
  warn(message: string): void;
  /** Called when the disk is open, and its size and the format that it lies in are known. */
  onOpen?: ((diskSizeBytes: number, format: string, notice?: string) => void) | undefined;
  onScanned?: ((scannedBytes: number) => void) | undefined;
}

export interface PreparedImage extends AsyncDisposable {
  layout: Layout;
  image: VirtualImage;
  /** @throws DiskliftError `SourceChanged` when the disk has changed since the scan; the signal's reason, at once */
  seal(): Promise<void>;
}

/** Opens, checks and scans a disk. @throws DiskliftError; nothing has been sent then. */
export async function prepareImage(options: PrepareOptions): Promise<PreparedImage> {
  validateOptions(options.qcow2);
  validateVerify(options);
  const source = await openUnlessAborted(options.openSource(), options.signal);
  try {
    if (options.layout !== 'Verbatim') checkL1TableSize(source.sizeBytes, options.qcow2.clusterSizeBytes);
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
 * Never rejects. A lost storage fails the close as well; that failure concerns no bytes, and must not hide the first failure.
 */
async function closeSource(source: DiskSource, { signal, clock }: PrepareOptions): Promise<void> {
  await settleWithin(source.dispose(), { signal, clock, graceMs: CLOSE_GRACE_MS }).catch(() => {});
}

type Parts = Omit<PreparedImage, typeof Symbol.asyncDispose>;

/** The image of a disk whose identity tells of every write. */
async function prepareTrusted(source: DiskSource, options: PrepareOptions): Promise<Parts> {
  const identity = await abortable(source.identity(), options.signal);
  const layout = layoutOf(await mapOf(source, options), options);
  // A disk that changed during the scan is refused before the first byte rather than at the last.
  const seal = () => sealSource(source, identity, options.signal);
  await seal();
  return { layout, image: createVirtualImage({ source, layout, identity }), seal };
}

/** The fact that a hard link, a chmod or an extended attribute changes. Comparing the content finds a write behind it. */
const ATTRIBUTES_ALONE = ['ctime'];

/** The image of a disk whose content is compared, beside its identity. */
async function prepareVerified(source: DiskSource, options: PrepareOptions): Promise<Parts> {
  // Loaded when it is needed: most commands start sooner without it.
  const [{ createBlockHashes }, { verifyDisk }] = await Promise.all([import('./block-hashes.ts'), import('./verify.ts')]);
  const identity = await abortable(source.identity(), options.signal);
  const hashes = createBlockHashes();
  const map = await mapOf(source, options, hashes);
  const layout = layoutOf(map, options);
  await sealSource(source, identity, options.signal);
  const again = await openAgain(source, options.signal);
  const verified = verifyDisk({ source: again, map, hashes });
  // With the content, a transfer that another process has begun is not gone on with when the disk was written to since.
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
  // A raw external data file is not looked at, and the image says nothing of what it holds.
  if (verify === 'never' || qcow2.dataFile?.raw === true) return false;
  if (verify === 'always') return true;
  if (source.identityMissesWrites !== true) return false;
  if (zeroDetection === 'extents')
    warn(`${source.name}: --zero-detection extents reads it once only, so a write to it meanwhile will go unnoticed`);
  return zeroDetection === 'content';
}

function layoutOf(map: AllocationMap, { layout, qcow2 }: PrepareOptions): Layout {
  return layout === 'Verbatim' ? createVerbatimLayout(map, qcow2) : createLayout(map, qcow2);
}

async function mapOf(source: DiskSource, options: PrepareOptions, hashes?: BlockHashes): Promise<AllocationMap> {
  const { clusterSizeBytes, dataFile } = options.qcow2;
  // In a raw external data file every cluster is mapped to itself, whatever it holds: there is nothing to look at.
  if (dataFile?.raw === true) return fullAllocationMap(source.sizeBytes, clusterSizeBytes);
  const { signal, onScanned } = options;
  // A verbatim image needs no content scan, except for the hashes that verification compares.
  const zeroDetection = options.layout === 'Verbatim' && hashes === undefined ? 'extents' : options.zeroDetection;
  const map = await scanDisk({ source, clusterSizeBytes, zeroDetection, signal, onProgress: onScanned, onData: hashes?.add });
  if (options.layout !== 'Verbatim' && zeroDetection === 'extents' && map.clusters.total > 0 && map.clusters.hole === 0)
    options.warn(`${source.name}: no holes found, so the image holds the whole disk; --zero-detection content finds zeros by reading`);
  return map;
}
