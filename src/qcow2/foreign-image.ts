/** An image that somebody else has written, as far as its tables are to be judged by it. */

import { alignDown, alignUp } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { SECTOR_SIZE_BYTES, TABLE_ENTRY_SIZE_BYTES } from './constants.ts';
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

/** L2 tables are one cluster each. */
export function entriesPerL2Table({ clusterSizeBytes }: Pick<Qcow2Header, 'clusterSizeBytes'>): number {
  return clusterSizeBytes / TABLE_ENTRY_SIZE_BYTES;
}

/**
 * How many L2 tables the disk has room for. An L1 table may be longer: behind the disk's end QEMU keeps the state of a VM for a moment,
 * while it takes a snapshot.
 */
export function l2TableCount(header: Pick<Qcow2Header, 'sizeBytes' | 'clusterSizeBytes'>): number {
  return Math.ceil(guestSizeBytes(header) / (header.clusterSizeBytes * entriesPerL2Table(header)));
}

/** A file ends with a whole sector for QEMU: what the last one lacks is zeros. */
export function wholeSectors(fileSizeBytes: number): number {
  return alignUp(fileSizeBytes, SECTOR_SIZE_BYTES);
}

/** @param offset in the file `name`, of the entry or table that is wrong */
export function corruptTable(name: string, offset: number, why: string): DiskliftError {
  return new DiskliftError('SourceReadError', `${name}: its qcow2 table at offset ${offset} ${why}; qemu-img check says more`);
}
