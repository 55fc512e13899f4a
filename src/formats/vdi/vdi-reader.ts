/** Reads VDI images (VirtualBox, VDICore.h): the size of the disk, its parent and its block map. */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';
import { readUpTo } from '../../sources/opened-file.ts';
import type { FormatReader } from '../format.ts';
import { type BlockTable, checkTable } from '../truncation-check.ts';

const HEADER_BYTES = 512;
const SIGNATURE = 0xbeda107f;
const VERSION = 0x00010001;
const DYNAMIC = 1;
const FIXED = 2;
const SECTOR_SIZE_BYTES = 512;
const UUID_BYTES = 16;
const LINK_UUID_AT = 0x1a8;
const PARENT_UUID_AT = 0x1b8;
/** The lowest entry of a block without data: never written, or discarded. */
const FIRST_EMPTY = 0xfffffffe;
const ENTRY_SIZE_BYTES = 4;

export const VDI_READER: FormatReader = {
  readReferences: async (file) => parseVdiHeader(await readUpTo(file, 0, HEADER_BYTES), file.name),
  async checkTruncation(image, file) {
    await checkTable(file, parseVdiBlockMap(await readUpTo(image, 0, HEADER_BYTES), file.name));
    return undefined;
  },
  findPlainLayer: undefined,
  repairReference: undefined,
  readExtentSize: undefined,
};

/**
 * @param bytes the file's first 512 bytes
 * @returns the size of the disk, rounded up to whole sectors as in QEMU, because VBoxManage convertfromraw writes odd
 * sizes
 * @throws DiskliftError `FormatUnsupported`, also for an image with a parent
 */
export function parseVdiHeader(bytes: Uint8Array, name: string): { diskSizeBytes: number } {
  const view = boundedView({ bytes, name, isLittleEndian: true });
  if (view.u32(0x40) !== SIGNATURE) throw view.refuse('not a VDI image');
  if (view.u32(0x44) !== VERSION) throw view.refuse('only VDI images of version 1.1 can be read');
  const type = view.u32(0x4c);
  const isLinked = [LINK_UUID_AT, PARENT_UUID_AT].some((at) => {
    for (let index = 0; index < UUID_BYTES; index += 4) if (view.u32(at + index) !== 0) return true;
    return false;
  });
  if ((type !== DYNAMIC && type !== FIXED) || isLinked)
    throw view.refuse('is a differencing VDI, which cannot be read; merge it with its parent');
  return { diskSizeBytes: alignUp(view.u64(0x170), SECTOR_SIZE_BYTES) }; // cbDisk
}

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
