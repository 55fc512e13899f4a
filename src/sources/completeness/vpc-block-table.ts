/** Where a VHD has its disk (Virtual Hard Disk Image Format Specification, "Dynamic Disk Header Format", "Block Allocation Table and Data Blocks"). */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';
import type { BlockTable } from './block-table.ts';

export const VPC_DYNAMIC_HEADER_BYTES = 1024;
const SIGNATURE = Buffer.from('cxsparse');
const SECTOR_SIZE_BYTES = 512;
const ENTRY_SIZE_BYTES = 4;
const FIXED = 2;
const UNUSED = 0xffffffff;

/** @param footer 512 bytes @returns how much lies in front of it; undefined of one that is not of a fixed disk. @throws DiskliftError `FormatUnsupported` */
export function sizeOfFixedVpc(footer: Uint8Array, name: string): number | undefined {
  const view = boundedView({ bytes: footer, name });
  return view.u32(60) === FIXED ? view.u64(48) : undefined; // Disk Type, Current Size
}

/** @param footer of a dynamic disk @returns where its header is. @throws DiskliftError `FormatUnsupported` */
export function placeOfVpcHeader(footer: Uint8Array, name: string): number {
  return boundedView({ bytes: footer, name }).u64(16); // Data Offset
}

/** @param header {@link VPC_DYNAMIC_HEADER_BYTES} @throws DiskliftError `FormatUnsupported` */
export function parseVpcBlockTable(header: Uint8Array, name: string): BlockTable {
  const view = boundedView({ bytes: header, name });
  if (!SIGNATURE.equals(header.subarray(0, SIGNATURE.length))) throw view.refuse('its VHD header of a dynamic disk is none');
  const blockSizeBytes = view.u32(32); // Block Size
  // A bit a sector, whole sectors of them; in front of each block.
  const bitmapSizeBytes = alignUp(blockSizeBytes / SECTOR_SIZE_BYTES / 8, SECTOR_SIZE_BYTES);
  return {
    what: 'block allocation table',
    offset: view.u64(16), // Table Offset
    entryCount: view.u32(28), // Max Table Entries
    entrySizeBytes: ENTRY_SIZE_BYTES,
    endOf(entries, { at }) {
      const sector = entries.getUint32(at);
      return sector === UNUSED ? 0 : sector * SECTOR_SIZE_BYTES + bitmapSizeBytes + blockSizeBytes;
    },
  };
}
