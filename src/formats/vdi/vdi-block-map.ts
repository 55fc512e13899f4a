/** The block map of a VDI (VirtualBox, VDICore.h). */

import { boundedView } from '../../common/bounded-view.ts';
import type { BlockTable } from '../block-table.ts';

/** Of entries for blocks that hold nothing: never written to, and dropped again. */
const FIRST_EMPTY = 0xfffffffe;
const ENTRY_SIZE_BYTES = 4;

/** @param header the file's first 512 bytes @throws DiskliftError `FormatUnsupported` */
export function parseVdiBlockMap(header: Uint8Array, name: string): BlockTable {
  const view = boundedView({ bytes: header, name, isLittleEndian: true });
  const [offset, dataOffset] = [view.u32(0x154), view.u32(0x158)]; // offBlocks, offData
  const diskSizeBytes = view.u64(0x170); // cbDisk
  const blockSizeBytes = view.u32(0x178); // cbBlock
  const blockCount = view.u32(0x180); // cBlocks
  const entryCount = Math.ceil(diskSizeBytes / blockSizeBytes);
  if (blockSizeBytes === 0 || entryCount > blockCount)
    throw view.refuse(`its block map has no room for its disk of ${diskSizeBytes} bytes`);
  return {
    what: 'block map',
    offset,
    entryCount,
    entrySizeBytes: ENTRY_SIZE_BYTES,
    endOf(entries, { at, index }) {
      const block = entries.getUint32(at, true);
      if (block >= FIRST_EMPTY) return 0;
      return dataOffset + block * blockSizeBytes + Math.min(blockSizeBytes, diskSizeBytes - index * blockSizeBytes);
    },
  };
}
