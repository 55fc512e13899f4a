/**
 * The files of a disk image. disklift opens each one beneath the volume, so that no reader opens a file by its name.
 */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Libc } from '../native/libc.ts';
import type { VpcDisk } from './vpc/vpc-footer.ts';

export interface ImageFile {
  handle: FileHandle;
  /** stat(2) of the file when it was opened, before any read. */
  opened: BigIntStats;
  /** For messages. */
  name: string;
  libc: Libc | undefined;
  /** Opens the file that has the name now, to check that it is still the same file. */
  reopen(): Promise<FileHandle>;
  /** stat(2) of the file's name without opening it. When left out, the file must be opened again for that. */
  statByName?(): Promise<BigIntStats>;
  /** A name in the table of formats. */
  format: string;
  /** The size of the disk as this file states it; the served disk must have this size. Left out for raw files. */
  diskSizeBytes?: number;
  /** Location of the disk in a VHD. */
  vpc?: VpcDisk;
  /** The image that holds the clusters which this one lacks; left out where those are zeros. */
  backing?: ImageFile;
  /** The file that holds the data of a qcow2 image, where that is not the image itself. */
  dataFile?: ImageFile;
  /** The parts of the disk in order, for a VMDK that is only a descriptor. */
  extents?: readonly VmdkExtent[];
}

/** 'flat': the disk's bytes from `offsetBytes` of the file on. 'sparse': a VMDK of its own that refers to no file. */
export type VmdkExtent = PlainExtent | { kind: 'sparse'; file: ImageFile; sizeBytes: number };

/** An extent that is read without any table. */
export type PlainExtent = { kind: 'zero'; sizeBytes: number } | { kind: 'flat'; file: ImageFile; offsetBytes: number; sizeBytes: number };

export interface ImageTree extends AsyncDisposable {
  root: ImageFile;
  /** All files, the root first; a file that is referred to twice is listed once. */
  files: readonly ImageFile[];
}
