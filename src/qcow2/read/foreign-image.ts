/** An image that somebody else has written, as far as its tables are to be judged by it. */

import { alignDown, alignUp } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import type { Qcow2Header } from './parse-header.ts';

export interface ForeignImage {
  /** For messages. */
  name: string;
  header: Qcow2Header;
  fileSizeBytes: number;
  /** Of the external data file, where there is one. */
  dataFileSizeBytes?: number | undefined;
}

/** The disk's size: whole sectors, as QEMU has it. */
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
 * How many L2 tables the disk has room for. An L1 table may be longer: behind the disk's end QEMU keeps the state of a VM for a moment,
 * while it takes a snapshot.
 */
export function l2TableCount(header: Pick<Qcow2Header, 'sizeBytes' | 'clusterSizeBytes' | 'hasExtendedL2'>): number {
  return Math.ceil(guestSizeBytes(header) / (header.clusterSizeBytes * entriesPerL2Table(header)));
}

/** @returns what the table of the L1 index `index` maps, and how much of it, since the disk may end within */
export function l2TableSpan(
  header: Pick<Qcow2Header, 'sizeBytes' | 'clusterSizeBytes' | 'hasExtendedL2'>,
  index: number,
): { guestOffset: number; usedBytes: number } {
  const { clusterSizeBytes } = header;
  const guestOffset = index * clusterSizeBytes * entriesPerL2Table(header);
  const clusterCount = Math.ceil((guestSizeBytes(header) - guestOffset) / clusterSizeBytes);
  return { guestOffset, usedBytes: Math.min(clusterCount * l2EntrySizeBytes(header), clusterSizeBytes) };
}

/** A file ends with a whole sector for QEMU: what the last one lacks is zeros. */
export function wholeSectors(fileSizeBytes: number): number {
  return alignUp(fileSizeBytes, SECTOR_SIZE_BYTES);
}

/** A stretch of the disk, and where an L2 table says that it lies. */
export interface PlacedData {
  guestOffset: number;
  hostOffset: number;
  length: number;
  tableOffset: number;
}

/**
 * An image's own file is whole sectors, so that one that ends elsewhere has lost something; an external data file may be any raw disk.
 * @throws DiskliftError `SourceReadError` for data that goes on behind the end of the file it is in
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

/** @param offset in the file `name`, of the entry or table that is wrong */
export function corruptTable(name: string, offset: number, why: string): DiskliftError {
  return new DiskliftError('SourceReadError', `${name}: its qcow2 table at offset ${offset} ${why}; qemu-img check says more`);
}

/** The same for what lies behind the file's end. It may be still on its way, so it is tried again, as what is corrupt is. */
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
