/** The block allocation table of a VHDX (MS-VHDX 2.5 "Blocks"). */

import { boundedView } from '../../common/bounded-view.ts';
import { isPowerOfTwo, MIB } from '../../common/bytes.ts';
import type { BlockTable } from '../block-table.ts';

export interface VhdxDisk {
  /** Of the table, in the file. */
  offset: number;
  /** The items of the metadata region, each to its end or further. */
  fileParameters: Uint8Array;
  diskSize: Uint8Array;
  logicalSectorSize: Uint8Array;
  /** Of the file, for messages. */
  name: string;
}

const ENTRY_SIZE_BYTES = 8;
const STATE_BITS = 7;
const FULLY_PRESENT = 6;
/** FileOffsetMB begins at bit 20. */
const OFFSET_LOW = 0xfff00000;
/** A sector bitmap block stands for so many sectors. */
const SECTORS_PER_BITMAP = 2 ** 23;
const LARGEST_BLOCK_SIZE_BYTES = 256 * MIB;

/** @throws DiskliftError `FormatUnsupported` */
export function parseVhdxBlockTable({ offset, name, ...items }: VhdxDisk): BlockTable {
  const view = (bytes: Uint8Array) => boundedView({ bytes, name, isLittleEndian: true });
  const blockSizeBytes = view(items.fileParameters).u32(0); // BlockSize
  const diskSizeBytes = view(items.diskSize).u64(0); // VirtualDiskSize
  const sectorSizeBytes = view(items.logicalSectorSize).u32(0); // LogicalSectorSize
  const isBlockSize = isPowerOfTwo(blockSizeBytes) && blockSizeBytes >= MIB && blockSizeBytes <= LARGEST_BLOCK_SIZE_BYTES;
  if (!isBlockSize || (sectorSizeBytes !== 512 && sectorSizeBytes !== 4096))
    throw view(items.fileParameters).refuse(`no VHDX has blocks of ${blockSizeBytes} bytes and sectors of ${sectorSizeBytes}`);
  // So many entries of blocks are followed by one of a bitmap, which means something to disks with a parent only.
  const chunk = (SECTORS_PER_BITMAP * sectorSizeBytes) / blockSizeBytes;
  const blockCount = Math.ceil(diskSizeBytes / blockSizeBytes);
  return {
    what: 'block allocation table',
    offset,
    entryCount: blockCount + Math.floor(Math.max(0, blockCount - 1) / chunk),
    entrySizeBytes: ENTRY_SIZE_BYTES,
    endOf(entries, { at, index }) {
      const [low, high] = [entries.getUint32(at, true), entries.getUint32(at + 4, true)];
      if ((low & STATE_BITS) !== FULLY_PRESENT || index % (chunk + 1) === chunk) return 0;
      const block = index - Math.floor(index / (chunk + 1));
      const start = high * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
      return start + Math.min(blockSizeBytes, diskSizeBytes - block * blockSizeBytes);
    },
  };
}
