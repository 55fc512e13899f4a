/** Opens images with the files that they refer to, as a request does, and describes the opened files. */

import fs from 'node:fs/promises';
import path from 'node:path';
import type { DiskFormat } from '../../src/formats/formats.ts';
import type { ImageFile, ImageTree } from '../../src/formats/image-file.ts';
import { openImageTree } from '../../src/formats/open-image-tree.ts';
import { type Libc, loadLibc } from '../../src/native/libc.ts';

export interface TreeToOpen {
  volumePath: string;
  relativePath: string;
  format: DiskFormat;
  isGuess?: boolean;
  libc?: Libc | undefined;
  onOpen?: (file: ImageFile) => Promise<void>;
}

export async function openTree({ volumePath, relativePath, isGuess = false, ...options }: TreeToOpen): Promise<ImageTree> {
  const handle = await fs.open(path.join(volumePath, relativePath));
  return openImageTree({ libc: loadLibc(), ...options, isGuess, handle, volumePath, relativePath });
}

export type Outline = { [fact: string]: unknown };

/** A tree as text and numbers: formats, names and backing files. */
export function outlineOf(file: ImageFile): Outline {
  const { backing, dataFile, extents } = file;
  return {
    [file.format]: path.basename(file.name),
    ...(backing === undefined ? {} : { backing: outlineOf(backing) }),
    ...(dataFile === undefined ? {} : { dataFile: outlineOf(dataFile) }),
    ...(extents === undefined
      ? {}
      : { extents: extents.map((extent) => (extent.kind === 'zero' ? extent : { ...extent, file: outlineOf(extent.file) })) }),
  };
}
