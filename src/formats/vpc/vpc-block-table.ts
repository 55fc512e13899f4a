/**
 * The block table of a dynamic VHD (Virtual Hard Disk Image Format Specification, "Dynamic Disk Header Format" and "Block Allocation
 * Table and Data Blocks").
 */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp, isPowerOfTwo } from '../../common/bytes.ts';
import type { BlockTable } from '../block-table.ts';
import type { VpcDisk } from './vpc-footer.ts';

export const VPC_DYNAMIC_HEADER_BYTES = 1024;
const SIGNATURE = Buffer.from('cxsparse');
const SECTOR_SIZE_BYTES = 512;
const ENTRY_SIZE_BYTES = 4;
const UNUSED = 0xffffffff;

export interface VpcBlockTable extends BlockTable {
  /** Bytes of a block, a power of two. */
  blockSizeBytes: number;
  /** @param at the entry's offset in `view` @returns the file offset of the block's bytes; undefined for a block that is not allocated */
  startOf(view: DataView, at: number): number | undefined;
}

/**
 * Entries behind the end of the disk have no meaning. The last block may be truncated at the end of the disk.
 * @param header {@link VPC_DYNAMIC_HEADER_BYTES}
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseVpcBlockTable(header: Uint8Array, { sizeBytes }: VpcDisk, name: string): VpcBlockTable {
  const view = boundedView({ bytes: header, name });
  if (!SIGNATURE.equals(header.subarray(0, SIGNATURE.length))) throw view.refuse('has no valid VHD header of a dynamic disk');
  const blockSizeBytes = view.u32(32); // Block Size
  if (!isPowerOfTwo(blockSizeBytes) || blockSizeBytes < SECTOR_SIZE_BYTES)
    throw view.refuse(`no VHD has blocks of ${blockSizeBytes} bytes`);
  const maxEntryCount = view.u32(28); // Max Table Entries
  const entryCount = Math.ceil(sizeBytes / blockSizeBytes);
  if (entryCount > maxEntryCount)
    throw view.refuse(`its block allocation table of ${maxEntryCount} entries has no room for its disk of ${sizeBytes} bytes`);
  // A bit a sector, whole sectors of them; in front of each block.
  const bitmapSizeBytes = alignUp(blockSizeBytes / SECTOR_SIZE_BYTES / 8, SECTOR_SIZE_BYTES);
  const startOf = (entries: DataView, at: number) => {
    const sector = entries.getUint32(at);
    return sector === UNUSED ? undefined : sector * SECTOR_SIZE_BYTES + bitmapSizeBytes;
  };
  return {
    what: 'block allocation table',
    offset: view.u64(16), // Table Offset
    entryCount,
    entrySizeBytes: ENTRY_SIZE_BYTES,
    blockSizeBytes,
    startOf,
    endOf(entries, { at, index }) {
      const start = startOf(entries, at);
      return start === undefined ? 0 : start + Math.min(blockSizeBytes, sizeBytes - index * blockSizeBytes);
    },
  };
}
