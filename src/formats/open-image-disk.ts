/**
 * Opens the disk in an image of any format but raw. disklift reads a plain disk itself; QEMU reads every other disk.
 */

import type { Clock } from '../common/clock.ts';
import { dropCachedPages } from '../native/file-cache.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { OpenDiskOptions } from '../sources/open-disk.ts';
import { fileSize } from '../sources/opened-file.ts';
import type { ReadOptions } from './format.ts';
import { readerOf } from './formats.ts';
import { dropStalePages, type ImageFiles, missesWrites, openImageFiles } from './image-files.ts';
import type { ImageRoot } from './open-image-tree.ts';

export interface OpenImageOptions extends OpenDiskOptions {
  clock: Clock;
  /** Aborts the opening only. */
  signal: AbortSignal;
}

/**
 * Opens the image with all files that it refers to, and checks that no file is truncated. The source owns the root's
 * handle; a failure closes it.
 * @throws DiskliftError as {@link openImageFiles}, {@link openPlainDisk}, {@link requireNotTruncated} and {@link
 * openQemuDisk}
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

/** Opens the disk without QEMU or with it. Reads the image's tables once. */
async function openFormat(image: ImageFiles, options: OpenImageOptions): Promise<DiskSource> {
  const { findPlainLayer } = await readerOf(image.root.format);
  if (findPlainLayer !== undefined) {
    const { openPlainDisk } = await import('./plain-disk.ts');
    const plain = await openPlainDisk(image, options);
    if (plain !== undefined) return plain;
  }
  const notice = await requireNotTruncated(image, options);
  const { openQemuDisk } = await import('./qemu/open-qemu-disk.ts');
  return { ...(await openQemuDisk(image, options)), ...(notice === undefined ? {} : { notice }) };
}

/**
 * Runs the truncation check of each file's format: the files must hold everything that their tables locate.
 * @returns a notice for the user, or undefined
 * @throws DiskliftError `SourceReadError` that names the file and the data past its end; `FormatUnsupported`,
 * `SourceChanged`, `Cancelled`
 */
export async function requireNotTruncated(
  { root, files, watched }: ImageFiles,
  { libc, readLimit, signal }: ReadOptions,
): Promise<string | undefined> {
  const isDevice = watched.some(({ stat }) => stat.isBlockDevice());
  let notice: string | undefined;
  for (const image of files) {
    const { handle, name, format } = image;
    // Another node may have written to the device since pages were cached.
    if (isDevice && libc !== undefined) await dropCachedPages(libc, handle.fd, 0, 0);
    const target = { fd: handle.fd, name, readLimit };
    const { checkTruncation } = await readerOf(format);
    const found = await checkTruncation(image, { name, target, signal, fileSizeBytes: await fileSize(image, libc) });
    if (image === root && image.backing === undefined) notice = found;
  }
  return notice;
}
