/** The files of a disk image, each opened by us beneath the volume, so that nobody has to open one by its name. */

import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Libc } from '../native/libc.ts';
import type { VpcDisk } from './vpc/vpc-footer.ts';

export const DISK_FORMATS = ['raw', 'qcow2', 'vmdk', 'vhdx', 'vdi', 'vpc'] as const;

/** As QEMU calls them; vpc is VHD. */
export type DiskFormat = (typeof DISK_FORMATS)[number];

export function isDiskFormat(name: string): name is DiskFormat {
  return DISK_FORMATS.some((format) => format === name);
}

/** One file of an image, opened by us. */
export interface ImageFile {
  handle: FileHandle;
  /** stat(2) of the file when it was opened, before any read. */
  opened: BigIntStats;
  /** For messages. */
  name: string;
  libc: Libc | undefined;
  /** Opens anew what has the file's name now, for who wants to know whether that is still the same file. */
  reopen(): Promise<FileHandle>;
  /** stat(2) of the file's name without opening it. When left out, the file must be opened again for that. */
  statByName?(): Promise<BigIntStats>;
  format: DiskFormat;
  /** The size of the disk as this file states it; the served disk must have this size. Left out for raw files. */
  diskSizeBytes?: number;
  /** Location of the disk in a VHD. */
  vpc?: VpcDisk;
  /** What qcow2 reads where it has nothing of its own; left out where that is zeros. */
  backing?: ImageFile;
  /** Of qcow2: where its data is. */
  dataFile?: ImageFile;
  /** Of a VMDK that is only a descriptor: the disk, piece by piece. */
  extents?: readonly VmdkExtent[];
}

/** A stretch of a disk. 'flat': its bytes, as they are, from `offsetBytes` on; 'sparse': a VMDK of its own that refers to nothing. */
export type VmdkExtent = PlainExtent | { kind: 'sparse'; file: ImageFile; sizeBytes: number };

/** An extent that is read without any table. */
export type PlainExtent = { kind: 'zero'; sizeBytes: number } | { kind: 'flat'; file: ImageFile; offsetBytes: number; sizeBytes: number };

export interface ImageTree extends AsyncDisposable {
  root: ImageFile;
  /** All of them, the root first; each once, whoever refers to it. */
  files: readonly ImageFile[];
}
