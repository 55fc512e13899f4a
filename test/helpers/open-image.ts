/** Opens images by our reader or by QEMU. */

import fs from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '../../src/common/clock.ts';
import { createLimiter } from '../../src/common/limiter.ts';
import type { DiskFormat } from '../../src/formats/formats.ts';
import { type ImageFiles, type OpenImageFilesOptions, openImageFiles } from '../../src/formats/image-files.ts';
import { openImageDisk } from '../../src/formats/open-image-disk.ts';
import { openPlainDisk } from '../../src/formats/plain-disk.ts';
import { type OpenQemuDiskOptions, openQemuDisk } from '../../src/formats/qemu/open-qemu-disk.ts';
import { loadLibc } from '../../src/native/libc.ts';
import type { DiskSource } from '../../src/sources/contract.ts';
import { NEVER } from './image-in-process.ts';

async function openFiles(imagePath: string, format: DiskFormat, options: Partial<OpenImageFilesOptions>): Promise<ImageFiles> {
  const handle = await fs.open(imagePath);
  const root = { handle, volumePath: path.dirname(imagePath), relativePath: path.basename(imagePath), format, isGuess: false };
  return openImageFiles(root, { libc: loadLibc(), ...options });
}

export interface OpenedByUs extends AsyncDisposable {
  /** Undefined if only QEMU can read it. */
  disk: DiskSource | undefined;
}

/** A qcow2 image. */
export async function openByUs(imagePath: string, options: Partial<OpenImageFilesOptions> = {}): Promise<OpenedByUs> {
  const image = await openFiles(imagePath, 'qcow2', options);
  const dispose = () => image[Symbol.asyncDispose]();
  try {
    const disk = await openPlainDisk(image, { libc: loadLibc(), readLimit: createLimiter(4), signal: NEVER, ...options });
    return { disk, [Symbol.asyncDispose]: disk?.dispose ?? dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

export interface ByQemuOptions extends Partial<OpenImageFilesOptions>, Partial<OpenQemuDiskOptions> {
  format?: DiskFormat;
}

/** qcow2 when no format is stated. */
export async function openByQemu(imagePath: string, { format = 'qcow2', ...options }: ByQemuOptions = {}): Promise<DiskSource> {
  const image = await openFiles(imagePath, format, options);
  try {
    return await openQemuDisk(image, { clock: systemClock, signal: NEVER, ...options });
  } catch (error) {
    await image[Symbol.asyncDispose]();
    throw error;
  }
}

/** Opens it as a request does: by the reader that supports it, if it is complete. */
export async function openAsRequested(
  imagePath: string,
  format: DiskFormat,
  warn: (message: string) => void = () => {},
): Promise<DiskSource> {
  const handle = await fs.open(imagePath);
  const root = { handle, volumePath: path.dirname(imagePath), relativePath: path.basename(imagePath), format, isGuess: false };
  const options = { libc: loadLibc(), readLimit: createLimiter(4), clock: systemClock, signal: NEVER, warn };
  return openImageDisk(root, options);
}

/** The whole content of the disk, read in pieces of `pieceBytes`. */
export async function readDisk(disk: DiskSource, pieceBytes = 1_000_003): Promise<Buffer> {
  const content = Buffer.alloc(disk.sizeBytes, 0xee);
  for (let at = 0; at < disk.sizeBytes; at += pieceBytes)
    await disk.read(content.subarray(at, Math.min(disk.sizeBytes, at + pieceBytes)), at, NEVER);
  return content;
}
