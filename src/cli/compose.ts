/** Where the parts are wired to one another: a source, its scan, the layout, the virtual image, a target. */

import type { Semaphore } from '../common/semaphore.ts';
import type { VirtualImage } from '../image/contract.ts';
import { scanDisk, type ZeroDetection } from '../image/scan.ts';
import { sealSource } from '../image/seal.ts';
import { createVirtualImage } from '../image/virtual-image.ts';
import type { Libc } from '../native/libc.ts';
import { type AllocationMap, fullAllocationMap } from '../qcow2/allocation-map.ts';
import { createLayout, type Layout } from '../qcow2/layout.ts';
import { checkL1TableSize } from '../qcow2/limits.ts';
import { type Qcow2Options, validateOptions } from '../qcow2/options.ts';
import type { DiskSource } from '../sources/contract.ts';
import { openDisk } from '../sources/open-disk.ts';
import type { ExportTarget } from '../targets/contract.ts';
import { createStdoutTarget } from '../targets/stdout/stdout-target.ts';

export const STDOUT_FD = 1;

export interface PrepareOptions {
  path: string;
  qcow2: Qcow2Options;
  zeroDetection: ZeroDetection;
  libc: Libc | undefined;
  readLimit: Semaphore;
  signal: AbortSignal;
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

/** Standard output as a target. */
export function composeStdoutTarget(libc: Libc | undefined): ExportTarget {
  return createStdoutTarget({ fd: STDOUT_FD, libc });
}

/** Opens, checks and scans a disk. @throws DiskliftError; nothing has been sent then. */
export async function prepareImage(options: PrepareOptions): Promise<PreparedImage> {
  validateOptions(options.qcow2);
  const source = await openDisk(options.path, options);
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
