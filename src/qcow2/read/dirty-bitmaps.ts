/** Parses the dirty bitmaps that a qcow2 image stores (qcow2.rst, "Bitmaps"), of images from other programs. Pure. */

import type { DiskliftError } from '../../common/errors.ts';
import { TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import type { Qcow2Header } from './parse-header.ts';
import { parseBitmap } from './snapshots.ts';

export interface StoredBitmap extends Pick<ReturnType<typeof parseBitmap>, 'name' | 'isInUse' | 'isRecording' | 'granularityBytes'> {
  tableOffset: number;
  tableEntryCount: number;
}

/** QEMU's limit of the directory is 64 MiB, and no bitmap of a known program comes near. */
export const MAX_BITMAP_DIRECTORY_BYTES = 1024 * 1024;
/** Enough for 256 TiB with the least granularity and clusters of 64 KiB. */
const MAX_BITMAP_CLUSTERS = 1024 * 1024;

/** @param bytes of the directory @throws DiskliftError `FormatUnsupported` */
export function parseBitmapDirectory(bytes: Uint8Array, bitmapCount: number, name: string): StoredBitmap[] {
  const bitmaps: StoredBitmap[] = [];
  let at = 0;
  for (let index = 0; index < bitmapCount; index += 1) {
    const { table, end, ...bitmap } = parseBitmap(bytes, at, name);
    bitmaps.push({ ...bitmap, tableOffset: table.offset, tableEntryCount: table.entryCount });
    at = end;
  }
  return bitmaps;
}

/** The bitmap of an image, checked against its disk. */
export interface BitmapPlace {
  bitmap: StoredBitmap;
  header: Pick<Qcow2Header, 'clusterSizeBytes'>;
  diskSizeBytes: number;
  fileSizeBytes: number;
}

/** Bytes of the disk for which one cluster of a bitmap stands. */
export function bytesPerBitmapCluster({ bitmap, header }: Pick<BitmapPlace, 'bitmap' | 'header'>): number {
  return bitmap.granularityBytes * 8 * header.clusterSizeBytes;
}

/** @returns the length of the bitmap's table, in bytes, which must fit the disk */
export function sizeOfBitmapTable(place: BitmapPlace, refuse: (why: string) => DiskliftError): number {
  const { bitmap, diskSizeBytes } = place;
  const needed = Math.ceil(diskSizeBytes / bytesPerBitmapCluster(place));
  if (bitmap.tableEntryCount !== needed || needed > MAX_BITMAP_CLUSTERS)
    throw refuse(`its bitmap ${bitmap.name} has ${bitmap.tableEntryCount} clusters, and its disk needs ${needed}`);
  return needed * TABLE_ENTRY_SIZE_BYTES;
}

/**
 * @param bytes of the bitmap's table
 * @returns for each cluster of the bitmap its offset in the file, 'clean' or 'dirty'
 */
export function parseBitmapTable(
  bytes: Uint8Array,
  place: BitmapPlace,
  refuse: (why: string) => DiskliftError,
): (number | 'clean' | 'dirty')[] {
  const { bitmap, header, fileSizeBytes } = place;
  if (bytes.length !== bitmap.tableEntryCount * TABLE_ENTRY_SIZE_BYTES) throw refuse(`its bitmap ${bitmap.name} is cut short`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bitmap.tableEntryCount }, (_, index) => {
    const entry = view.getBigUint64(index * TABLE_ENTRY_SIZE_BYTES);
    if (entry <= 1n) return entry === 0n ? 'clean' : 'dirty';
    const offset = Number(entry);
    if (offset % header.clusterSizeBytes !== 0 || offset + header.clusterSizeBytes > fileSizeBytes)
      throw refuse(`its bitmap ${bitmap.name} has a cluster at ${entry}, which is not a cluster of the file`);
    return offset;
  });
}

/** @param bits of one cluster of a bitmap @returns runs of equal bits: how many, and whether they are dirty */
export function* runsOfBits(bits: Uint8Array): Generator<{ bitCount: number; isDirty: boolean }> {
  let run = { bitCount: 0, isDirty: false };
  for (const byte of bits)
    for (let bit = 0; bit < 8; ) {
      // Whole bytes at once: bitmaps are mostly clean.
      const isWhole = byte === 0 || byte === 0xff;
      const isDirty = ((byte >> bit) & 1) === 1;
      const bitCount = isWhole ? 8 : 1;
      if (isDirty === run.isDirty) run.bitCount += bitCount;
      else {
        if (run.bitCount > 0) yield run;
        run = { bitCount, isDirty };
      }
      bit += bitCount;
    }
  if (run.bitCount > 0) yield run;
}
