/** The header of a sparse VMDK: where its descriptor is (Virtual Disk Format 5.0, "Hosted Sparse Extent Header", "ESX Server Sparse Extents"). */

import { boundedView } from '../../common/bounded-view.ts';
import { MAX_DESCRIPTOR_BYTES } from './vmdk-descriptor.ts';

export interface VmdkSparseHeader {
  /** Of the disk, or of the extent of it. */
  sizeBytes: number;
  /** The disk is divided into grains of this size. */
  grainSizeBytes: number;
  /** Where the descriptor lies in the file; none in a file that is only an extent. */
  descriptor?: { offset: number; length: number };
}

export const SPARSE_HEADER_BYTES = 512;
const KDMV = 0x564d444b;
const COWD = 0x44574f43;
const SECTOR_SIZE_BYTES = 512;

/** @returns undefined for a file that is neither kind of sparse extent. @throws DiskliftError `FormatUnsupported` */
export function parseVmdkSparseHeader(bytes: Uint8Array, name: string): VmdkSparseHeader | undefined {
  const view = boundedView({ bytes, name, isLittleEndian: true });
  const magic = view.length < 4 ? undefined : view.u32(0); // magicNumber
  if (magic === COWD) {
    const [sectors, grainSectors] = [view.u32(12), view.u32(16)]; // numSectors, grainSize
    return { sizeBytes: sectors * SECTOR_SIZE_BYTES, grainSizeBytes: grainSectors * SECTOR_SIZE_BYTES };
  }
  if (magic !== KDMV) return undefined;
  const version = view.u32(4); // version
  if (version < 1 || version > 3) throw view.refuse(`VMDK version ${version} is not known; 1 to 3 are`);
  const inBytes = (sectors: number, what: string) => {
    if (!Number.isSafeInteger(sectors * SECTOR_SIZE_BYTES)) throw view.refuse(`its VMDK header has ${what} of ${sectors} sectors`);
    return sectors * SECTOR_SIZE_BYTES;
  };
  const sizeBytes = inBytes(view.u64(12), 'a size'); // capacity
  // QEMU takes such a file for a mere descriptor, and opens whatever that names.
  if (sizeBytes === 0) throw view.refuse('its VMDK header says that it has no size');
  const grainSizeBytes = inBytes(view.u64(20), 'a grain'); // grainSize
  const offset = inBytes(view.u64(28), 'a descriptor offset'); // descriptorOffset
  const length = inBytes(view.u64(36), 'a descriptor'); // descriptorSize
  if (length > MAX_DESCRIPTOR_BYTES) throw view.refuse(`its descriptor is larger than ${MAX_DESCRIPTOR_BYTES} bytes`);
  return { sizeBytes, grainSizeBytes, ...(offset === 0 || length === 0 ? {} : { descriptor: { offset, length } }) };
}
