/** The L1 table of an image from another program, and the places of all tables (qcow2.rst, "L1 table entry"). Pure. */

import { countNotAbove } from '../../common/columns.ts';
import { COPIED_FLAG_HIGH, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { joinHalves } from '../entries.ts';
import { corruptTable, cutShort, type ForeignImage, l2TableCount } from './foreign-image.ts';

/** Bits 56 to 62, and 0 to 8. */
const RESERVED_HIGH = 0x7f000000;
const RESERVED_LOW = 0x1ff;

/**
 * The place of the part of the table that maps the disk.
 * @throws DiskliftError `SourceReadError` when the file ends in front of its end
 */
export function placeOfL1Table({ name, header, fileSizeBytes }: ForeignImage): { offset: number; length: number } {
  const place = { offset: header.l1TableOffset, length: l2TableCount(header) * TABLE_ENTRY_SIZE_BYTES };
  if (place.length > 0 && place.offset < header.clusterSizeBytes) throw corruptTable(name, place.offset, 'lies where the header is');
  if (place.offset + place.length > fileSizeBytes) throw cutShort({ name, fileSizeBytes }, place.offset, `has ${place.length} bytes`);
  return place;
}

/**
 * @param bytes of {@link placeOfL1Table}
 * @returns the offset of each L2 table; 0 for a table that does not exist
 * @throws DiskliftError `SourceReadError` that names the entry's offset
 */
export function parseL1Table(bytes: Uint8Array, image: ForeignImage): Float64Array {
  const { name, header, fileSizeBytes } = image;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsets = new Float64Array(l2TableCount(header));
  for (let index = 0; index < offsets.length; index += 1) {
    const at = index * TABLE_ENTRY_SIZE_BYTES;
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    if (low === 0 && high === 0) continue;
    const offset = joinHalves((high & ~COPIED_FLAG_HIGH) >>> 0, low);
    const corrupt = (why: string) => corruptTable(name, header.l1TableOffset + at, why);
    if ((high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0) throw corrupt('has an entry with bits that are not known');
    if (offset % header.clusterSizeBytes !== 0) throw corrupt(`names ${offset}, which is not the beginning of a cluster`);
    if (offset + header.clusterSizeBytes > fileSizeBytes) throw cutShort(image, header.l1TableOffset + at, `names ${offset}`);
    offsets[index] = offset;
  }
  return offsets;
}

export interface MetadataPlaces {
  /** Whether metadata lies between `start` (inclusive) and `end` (exclusive). Binary search. */
  overlaps(start: number, end: number): boolean;
}

/**
 * Finds the header, L1 table, refcount table and L2 tables of the disk. They must not overlap, and no data may lie
 * there.
 * @param l2Offsets as {@link parseL1Table} gives them
 * @throws DiskliftError `SourceReadError`
 */
export function createMetadataPlaces({ name, header }: ForeignImage, l2Offsets: Float64Array): MetadataPlaces {
  const { clusterSizeBytes } = header;
  const fixed = [
    { start: 0, end: clusterSizeBytes },
    { start: header.l1TableOffset, end: header.l1TableOffset + header.l1EntryCount * TABLE_ENTRY_SIZE_BYTES },
    { start: header.refcountTableOffset, end: header.refcountTableOffset + header.refcountTableClusterCount * clusterSizeBytes },
  ];
  const tables = l2Offsets.filter((offset) => offset !== 0).sort();
  for (const [index, offset] of tables.entries()) {
    // Each table adds ranges to the disk, so a table that counts twice could make more ranges than the file has room
    // for.
    if (offset === tables[index - 1]) throw corruptTable(name, offset, 'is an L2 table of two parts of the disk');
    if (fixed.some(({ start, end }) => offset < end && offset + clusterSizeBytes > start))
      throw corruptTable(name, offset, 'is an L2 table that lies where another table is');
  }

  const tablesBefore = (offset: number) => countNotAbove(tables, offset - 1);

  return {
    overlaps: (start, end) =>
      fixed.some((place) => start < place.end && end > place.start) || tablesBefore(end) > tablesBefore(start - clusterSizeBytes + 1),
  };
}
