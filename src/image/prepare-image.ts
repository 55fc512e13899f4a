/** From a disk to its virtual image: identity, scan, layout, and the seal that holds them together. */

import { type AllocationMap, fullAllocationMap } from '../qcow2/allocation-map.ts';
import { createLayout, type Layout } from '../qcow2/layout.ts';
import { checkL1TableSize } from '../qcow2/limits.ts';
import { type Qcow2Options, validateOptions } from '../qcow2/options.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { VirtualImage } from './contract.ts';
import { scanDisk, type ZeroDetection } from './scan.ts';
import { sealSource } from './seal.ts';
import { createVirtualImage } from './virtual-image.ts';

/** What a user may choose about an image. */
export interface ImageOptions {
  qcow2: Qcow2Options;
  zeroDetection: ZeroDetection;
}

export interface PrepareOptions extends ImageOptions {
  /** Opens the disk. The prepared image owns it. */
  openSource(): Promise<DiskSource>;
  signal: AbortSignal;
  /** Takes one line about what is worth knowing but stops nothing. */
  warn(message: string): void;
  /** Called when the disk is open and its size known. */
  onOpen?: ((diskSizeBytes: number) => void) | undefined;
  onScanned?: ((scannedBytes: number) => void) | undefined;
}

export interface PreparedImage extends AsyncDisposable {
  layout: Layout;
  image: VirtualImage;
  /** @throws DiskliftError `SourceChanged` when the disk is no longer the one that was scanned. */
  seal(): Promise<void>;
}

/** Opens, checks and scans a disk. @throws DiskliftError; nothing has been sent then. */
export async function prepareImage(options: PrepareOptions): Promise<PreparedImage> {
  validateOptions(options.qcow2);
  const source = await options.openSource();
  try {
    checkL1TableSize(source.sizeBytes, options.qcow2.clusterSizeBytes);
    options.onOpen?.(source.sizeBytes);
    const identity = await source.identity();
    const map = await mapOf(source, options);
    const layout = createLayout(map, options.qcow2);
    // A disk that changed during the scan is refused before the first byte rather than at the last.
    const seal = () => sealSource(source, identity);
    await seal();
    const image = createVirtualImage({ source, layout, identity });
    return { layout, image, seal, [Symbol.asyncDispose]: () => source.dispose() };
  } catch (error) {
    await source.dispose();
    throw error;
  }
}

async function mapOf(source: DiskSource, options: PrepareOptions): Promise<AllocationMap> {
  const { clusterSizeBytes, dataFile } = options.qcow2;
  // In a raw external data file every cluster is mapped to itself, whatever it holds: there is nothing to look at.
  if (dataFile?.raw === true) return fullAllocationMap(source.sizeBytes, clusterSizeBytes);
  const { zeroDetection, signal, onScanned } = options;
  const map = await scanDisk({ source, clusterSizeBytes, zeroDetection, signal, onProgress: onScanned });
  if (zeroDetection === 'extents' && map.clusters.total > 0 && map.clusters.hole === 0)
    options.warn(`${source.name}: no holes found, so the image holds the whole disk; --zero-detection content finds zeros by reading`);
  return map;
}
