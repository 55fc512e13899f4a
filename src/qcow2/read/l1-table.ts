/** The L1 table of an image that somebody else has written: where its L2 tables lie (qcow2.rst, "L1 table entry"). Pure. */

import { COPIED_FLAG_HIGH, TABLE_ENTRY_SIZE_BYTES } from '../constants.ts';
import { joinHalves } from '../entries.ts';
import { corruptTable, cutShort, type ForeignImage, l2TableCount } from './foreign-image.ts';

/** Bits 56 to 62, and 0 to 8. */
const RESERVED_HIGH = 0x7f000000;
const RESERVED_LOW = 0x1ff;

/** Where the part of the table lies that maps the disk. @throws DiskliftError `SourceReadError` when the file ends in front of it */
export function placeOfL1Table({ name, header, fileSizeBytes }: ForeignImage): { offset: number; length: number } {
  const place = { offset: header.l1TableOffset, length: l2TableCount(header) * TABLE_ENTRY_SIZE_BYTES };
  if (place.length > 0 && place.offset < header.clusterSizeBytes) throw corruptTable(name, place.offset, 'lies where the header is');
  if (place.offset + place.length > fileSizeBytes) throw cutShort({ name, fileSizeBytes }, place.offset, `has ${place.length} bytes`);
  return place;
}

/**
 * @param bytes of {@link placeOfL1Table}
 * @returns the offset of each L2 table; 0 where there is none
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
