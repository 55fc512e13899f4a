/** From an image in any format but raw to a source. */

import type { Clock } from '../common/clock.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { OpenDiskOptions } from '../sources/open-disk.ts';
import type { DiskFormat } from './image-tree.ts';
import { type ImageFiles, openImageFiles } from './open-image-files.ts';
import type { ImageRoot } from './open-image-tree.ts';
import { dropStalePages, missesWrites } from './tree-files.ts';

export interface OpenImageOptions extends OpenDiskOptions {
  clock: Clock;
  /** For opening alone. */
  signal: AbortSignal;
}

/**
 * Opens the image with all files that it refers to, and checks that it is complete. disklift itself reads a disk that lies plain in the
 * files of a qcow2 image, a VHD or a VMDK; QEMU reads every other disk. The source owns the root's handle; a failure closes it.
 * @throws DiskliftError as {@link openImageFiles}, {@link openPlainQcow2}, {@link requireComplete} and {@link openQemuDisk}
 */
export async function openImageDisk(root: Omit<ImageRoot, 'libc' | 'onOpen' | 'warn'>, options: OpenImageOptions): Promise<DiskSource> {
  const image = await openImageFiles(root, options);
  try {
    return await serveImage(image, options);
  } catch (error) {
    await image[Symbol.asyncDispose]();
    throw error;
  }
}

async function serveImage(image: ImageFiles, options: OpenImageOptions): Promise<DiskSource> {
  // Disposing the source keeps the files open, so that a second source can read them again.
  const borrowed = { ...image, [Symbol.asyncDispose]: async () => {} };
  let served = await openFormat(borrowed, options);
  const dispose = async () => {
    await served.dispose();
    await image[Symbol.asyncDispose]();
  };

  async function openAgain(signal: AbortSignal): Promise<DiskSource> {
    await dropStalePages(image.watched);
    const first = served;
    served = await openFormat(borrowed, { ...options, signal });
    await first.dispose();
    return { ...served, dispose };
  }

  return {
    ...served,
    ...(missesWrites(image.watched) ? { openAgain } : {}),
    dispose,
  };
}

const MAY_BE_PLAIN: ReadonlySet<DiskFormat> = new Set(['qcow2', 'vpc', 'vmdk']);

/** Opens the disk without QEMU or with it. Reads the image's tables once. */
async function openFormat(image: ImageFiles, options: OpenImageOptions): Promise<DiskSource> {
  if (MAY_BE_PLAIN.has(image.root.format)) {
    const { openPlainQcow2 } = await import('./qcow2/open-plain-qcow2.ts');
    const plain = await openPlainQcow2(image, options);
    if (plain !== undefined) return plain;
  }
  const { requireComplete } = await import('./require-complete.ts');
  const notice = await requireComplete(image, options);
  const { openQemuDisk } = await import('./qemu/open-qemu-disk.ts');
  return { ...(await openQemuDisk(image, options)), ...(notice === undefined ? {} : { notice }) };
}
