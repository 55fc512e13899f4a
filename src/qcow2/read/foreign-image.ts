/** An image from another program: the facts that its tables are checked against, and the errors of wrong tables. */

import { alignDown, alignUp } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import type { Qcow2Header } from './parse-header.ts';

export interface ForeignImage {
  /** Name in messages. */
  name: string;
  header: Qcow2Header;
  fileSizeBytes: number;
  /** Size of the external data file, if the image has one. */
  dataFileSizeBytes?: number | undefined;
}

/** Size of the disk in whole sectors, as QEMU rounds it. */
export function guestSizeBytes({ sizeBytes }: Pick<Qcow2Header, 'sizeBytes'>): number {
  return alignDown(sizeBytes, SECTOR_SIZE_BYTES);
}

/** Extended entries are a standard one and a bitmap. */
export function l2EntrySizeBytes({ hasExtendedL2 }: Pick<Qcow2Header, 'hasExtendedL2'>): number {
  return hasExtendedL2 ? 2 * TABLE_ENTRY_SIZE_BYTES : TABLE_ENTRY_SIZE_BYTES;
}

/** L2 tables are one cluster each. */
function entriesPerL2Table(header: Pick<Qcow2Header, 'clusterSizeBytes' | 'hasExtendedL2'>): number {
  return header.clusterSizeBytes / l2EntrySizeBytes(header);
}

/**
 * Number of L2 tables that map the disk. An L1 table may be longer: while QEMU takes a snapshot, it keeps the state of
 * the VM behind the disk's end.
 */
export function l2TableCount(header: Pick<Qcow2Header, 'sizeBytes' | 'clusterSizeBytes' | 'hasExtendedL2'>): number {
  return Math.ceil(guestSizeBytes(header) / (header.clusterSizeBytes * entriesPerL2Table(header)));
}

/**
 * @returns the offset that the table of the L1 index `index` maps, and its length in use, since the disk may end within
 */
export function l2TableRange(
  header: Pick<Qcow2Header, 'sizeBytes' | 'clusterSizeBytes' | 'hasExtendedL2'>,
  index: number,
): { guestOffset: number; usedBytes: number } {
  const { clusterSizeBytes } = header;
  const guestOffset = index * clusterSizeBytes * entriesPerL2Table(header);
  const clusterCount = Math.ceil((guestSizeBytes(header) - guestOffset) / clusterSizeBytes);
  return { guestOffset, usedBytes: Math.min(clusterCount * l2EntrySizeBytes(header), clusterSizeBytes) };
}

/** QEMU fills the last sector of a file with zeros. */
export function wholeSectors(fileSizeBytes: number): number {
  return alignUp(fileSizeBytes, SECTOR_SIZE_BYTES);
}

/** Bytes of the disk, with their offset in the file according to an L2 table. */
export interface PlacedData {
  guestOffset: number;
  hostOffset: number;
  length: number;
  tableOffset: number;
}

/**
 * The file of an image is whole sectors; another length means that it was truncated. An external data file may be any
 * raw disk.
 * @throws DiskliftError `SourceReadError` for data beyond the end of its file
 */
export function requireInFile({ name, fileSizeBytes, dataFileSizeBytes }: ForeignImage, placed: PlacedData): void {
  const { guestOffset, hostOffset, length, tableOffset } = placed;
  const endBytes = dataFileSizeBytes === undefined ? fileSizeBytes : wholeSectors(dataFileSizeBytes);
  if (hostOffset + length > endBytes)
    throw cutShort(
      { name, fileSizeBytes: dataFileSizeBytes ?? fileSizeBytes },
      tableOffset,
      `has ${guestOffset} of the disk at ${hostOffset}`,
    );
}

/** @param offset of the wrong entry or table in the file `name` */
export function corruptTable(name: string, offset: number, why: string): DiskliftError {
  return new DiskliftError('SourceReadError', `${name}: its qcow2 table at offset ${offset} ${why}; qemu-img check says more`);
}

/** The error for a table or data beyond the file's end. It is retryable, because the file may still be growing. */
export function cutShort(
  { name, fileSizeBytes }: Pick<ForeignImage, 'name' | 'fileSizeBytes'>,
  offset: number,
  why: string,
): DiskliftError {
  return new DiskliftError(
    'SourceReadError',
    `${name}: is cut short or damaged: its qcow2 table at offset ${offset} ${why}, in a file that ends at ${fileSizeBytes}; copy it once more`,
  );
}
