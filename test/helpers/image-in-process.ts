/** A virtual image made without the command line, for tests of its parts and for large tables. */

import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createLimiter } from '../../src/common/limiter.ts';
import type { VirtualImage } from '../../src/image/contract.ts';
import { scanDisk, type ZeroDetection } from '../../src/image/scan.ts';
import { createVirtualImage } from '../../src/image/virtual-image.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { createLayout, type Layout } from '../../src/qcow2/write/layout.ts';
import type { Qcow2Options } from '../../src/qcow2/write/options.ts';
import type { DiskSource } from '../../src/sources/contract.ts';
import { openDisk } from '../../src/sources/open-disk.ts';

export const NEVER = new AbortController().signal;

export const DEFAULT_OPTIONS: Qcow2Options = { clusterSizeBytes: 65_536, refcountBits: 16, version: 3 };

export function openSource(path: string): Promise<DiskSource> {
  return openDisk(path, { libc: loadLibc(), readLimit: createLimiter(8), warn: () => {} });
}

export interface ImageInProcess extends AsyncDisposable {
  source: DiskSource;
  layout: Layout;
  image: VirtualImage;
}

export async function openImage(
  diskPath: string,
  options: Partial<Qcow2Options> = {},
  zeroDetection: ZeroDetection = 'content',
): Promise<ImageInProcess> {
  const qcow2 = { ...DEFAULT_OPTIONS, ...options };
  const source = await openSource(diskPath);
  const identity = await source.identity();
  const map = await scanDisk({ source, clusterSizeBytes: qcow2.clusterSizeBytes, zeroDetection, signal: NEVER });
  const layout = createLayout(map, qcow2);
  const image = createVirtualImage({ source, layout, identity });
  return { source, layout, image, [Symbol.asyncDispose]: () => source.dispose() };
}

/** Writes the image of a disk to a file. @returns its layout */
export async function writeImage(diskPath: string, imagePath: string, options: Partial<Qcow2Options> = {}): Promise<Layout> {
  await using opened = await openImage(diskPath, options);
  // A chunk is only valid until the next one is requested; the file stream may keep several.
  const copies = async function* () {
    for await (const chunk of opened.image.stream({ signal: NEVER })) yield Buffer.from(chunk);
  };
  await pipeline(copies, createWriteStream(imagePath));
  return opened.layout;
}
