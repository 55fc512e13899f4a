/** Parses a VDI header (VirtualBox, VDICore.h): the size of the disk, and whether the image has a parent. */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';

export const VDI_HEADER_BYTES = 512;
const SIGNATURE = 0xbeda107f;
const VERSION = 0x00010001;
const DYNAMIC = 1;
const FIXED = 2;
const SECTOR_SIZE_BYTES = 512;
const UUID_BYTES = 16;
const LINK_UUID_AT = 0x1a8;
const PARENT_UUID_AT = 0x1b8;

/**
 * @param bytes the file's first {@link VDI_HEADER_BYTES}
 * @returns the size of the disk, rounded up to whole sectors as in QEMU, because VBoxManage convertfromraw writes odd sizes
 * @throws DiskliftError `FormatUnsupported`
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
