/** Where an image that somebody else has written keeps its tables. Data that lies there is none. Pure. */

import { TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { corruptTable, type ForeignImage } from './foreign-image.ts';

export interface MetadataPlaces {
  /** Whether any of it lies between `start` (inclusive) and `end` (exclusive). Binary search. */
  overlaps(start: number, end: number): boolean;
}

/**
 * Header, L1 table, refcount table, and the L2 tables of the disk; each must have its place for itself.
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
    // Each adds ranges to the disk, so their number must not be more than what the file has room for.
    if (offset === tables[index - 1]) throw corruptTable(name, offset, 'is an L2 table of two parts of the disk');
    if (fixed.some(({ start, end }) => offset < end && offset + clusterSizeBytes > start))
      throw corruptTable(name, offset, 'is an L2 table that lies where another table is');
  }

  /** The number of tables in front of `offset`. */
  function tablesBefore(offset: number): number {
    let low = 0;
    let high = tables.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((tables[middle] as number) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  return {
    overlaps: (start, end) =>
      fixed.some((place) => start < place.end && end > place.start) || tablesBefore(end) > tablesBefore(start - clusterSizeBytes + 1),
  };
}
