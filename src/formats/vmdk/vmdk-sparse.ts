/**
 * Parses a sparse VMDK: its header, grain directory and grain tables (Virtual Disk Format 5.0, "Hosted Sparse Extents",
 * "ESX Server Sparse Extents").
 */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';
import type { ExtentSize } from '../image-references.ts';
import type { BlockTable } from '../truncation-check.ts';
import { MAX_DESCRIPTOR_BYTES } from './vmdk-descriptor.ts';

export interface VmdkSparseHeader extends ExtentSize {
  /** Location of the descriptor in the file; absent in a file that is only an extent. */
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
  // QEMU reads such a file as a mere descriptor, and opens every file that it names.
  if (sizeBytes === 0) throw view.refuse('its VMDK header states a size of 0');
  const grainSizeBytes = inBytes(view.u64(20), 'a grain'); // grainSize
  const offset = inBytes(view.u64(28), 'a descriptor offset'); // descriptorOffset
  const length = inBytes(view.u64(36), 'a descriptor'); // descriptorSize
  if (length > MAX_DESCRIPTOR_BYTES) throw view.refuse(`its descriptor is larger than ${MAX_DESCRIPTOR_BYTES} bytes`);
  return { sizeBytes, grainSizeBytes, ...(offset === 0 || length === 0 ? {} : { descriptor: { offset, length } }) };
}

export interface VmdkGrains {
  directory: BlockTable;
  /** @returns the offset of the grain table that this entry of the directory locates; 0 for an absent table */
  tableAt(entries: DataView, at: number): number;
  tableSizeBytes: number;
  /** @param index in the directory @param offset in the file */
  table(index: number, offset: number): BlockTable;
  /**
   * The start of the last compressed grain in the file, among those in tables that were checked; 0 without markers. A
   * marker in front of a compressed grain states its length.
   */
  lastMarkerOffset(): number;
}

export const VMDK_FOOTER_BYTES = 3 * 512;
/** The first sector of the footer is a marker, the second one a header. */
export const VMDK_FOOTER_HEADER_AT = 512;
export const GRAIN_MARKER_BYTES = 12;

const ENTRY_SIZE_BYTES = 4;
const COWD_TABLE_ENTRIES = 4096;
const MAX_TABLE_ENTRIES = 512;
/** 64 TiB in grains of 64 KiB; the file can have 2 TiB of them. */
const MAX_TABLE_COUNT = 2 ** 21;
/** Half of GD_AT_END, which is all ones. */
const GD_AT_END_HALF = 0xffffffff;
const ZERO_GRAIN_FLAG = 1 << 2;
const MARKERS_FLAG = 1 << 17;
/** Entry of a grain of zeros, valid with that flag. */
const ZEROED = 1;

/**
 * @param header the file's first sector
 * @returns whether the header in the file's footer replaces this one
 * @throws DiskliftError `FormatUnsupported`
 */
export function isFooterUsed(header: Uint8Array, name: string): boolean {
  const view = boundedView({ bytes: header, name, isLittleEndian: true });
  return view.u32(0) !== COWD && view.u32(56) === GD_AT_END_HALF && view.u32(60) === GD_AT_END_HALF; // gdOffset
}

interface Geometry {
  diskSectors: number;
  grainSectors: number;
  tableEntries: number;
  directorySector: number;
  hasZeroGrains: boolean;
  isCompressed: boolean;
  hasMarkers: boolean;
}

/** @param header accepted by {@link parseVmdkSparseHeader} @throws DiskliftError `FormatUnsupported` */
export function parseVmdkGrains(header: Uint8Array, name: string): VmdkGrains {
  const geometry = parseGeometry(header, name);
  const { diskSectors, grainSectors, tableEntries, directorySector, isCompressed, hasMarkers } = geometry;
  const tableCount = Math.ceil(diskSectors / (grainSectors * tableEntries));
  const { refuse } = boundedView({ bytes: header, name });
  if (!Number.isFinite(tableCount) || tableEntries > COWD_TABLE_ENTRIES || tableCount > MAX_TABLE_COUNT)
    throw refuse(`no VMDK has ${diskSectors} sectors in grains of ${grainSectors} and tables of ${tableEntries}`);
  const tableSizeBytes = tableEntries * ENTRY_SIZE_BYTES;
  const tableAt = (entries: DataView, at: number) => entries.getUint32(at, true) * SECTOR_SIZE_BYTES;
  let lastOffset = 0;

  function endOfGrain(sector: number, grain: number): number {
    const left = diskSectors - grain * grainSectors;
    if (sector === 0 || left <= 0 || (sector === ZEROED && geometry.hasZeroGrains)) return 0;
    const offset = sector * SECTOR_SIZE_BYTES;
    if (!isCompressed) return offset + Math.min(grainSectors, left) * SECTOR_SIZE_BYTES;
    lastOffset = Math.max(lastOffset, offset);
    return offset + (hasMarkers ? GRAIN_MARKER_BYTES : 1);
  }

  return {
    directory: {
      what: 'grain directory',
      offset: directorySector * SECTOR_SIZE_BYTES,
      entryCount: tableCount,
      entrySizeBytes: ENTRY_SIZE_BYTES,
      endOf(entries, { at }) {
        const offset = tableAt(entries, at);
        return offset === 0 ? 0 : offset + tableSizeBytes;
      },
    },
    tableAt,
    tableSizeBytes,
    table: (index, offset) => ({
      what: 'grain table',
      offset,
      entryCount: tableEntries,
      entrySizeBytes: ENTRY_SIZE_BYTES,
      endOf: (entries, entry) => endOfGrain(entries.getUint32(entry.at, true), index * tableEntries + entry.index),
    }),
    lastMarkerOffset: () => (hasMarkers ? lastOffset : 0),
  };
}

function parseGeometry(header: Uint8Array, name: string): Geometry {
  const view = boundedView({ bytes: header, name, isLittleEndian: true });
  const isVmfs = view.u32(0) === COWD; // magicNumber
  if (isVmfs)
    return {
      diskSectors: view.u32(12), // numSectors
      grainSectors: view.u32(16), // grainSize
      directorySector: view.u32(20), // gdOffset
      tableEntries: COWD_TABLE_ENTRIES,
      ...{ hasZeroGrains: false, isCompressed: false, hasMarkers: false },
    };
  const flags = view.u32(8); // flags
  const tableEntries = view.u32(44); // numGTEsPerGT
  if (tableEntries > MAX_TABLE_ENTRIES) throw view.refuse(`its VMDK header has grain tables of ${tableEntries} entries`);
  return {
    diskSectors: view.u64(12), // capacity
    grainSectors: view.u64(20), // grainSize
    directorySector: view.u64(56), // gdOffset
    tableEntries,
    hasZeroGrains: (flags & ZERO_GRAIN_FLAG) !== 0,
    isCompressed: view.u16(77) !== 0, // compressAlgorithm
    hasMarkers: (flags & MARKERS_FLAG) !== 0,
  };
}

/** @param marker the {@link GRAIN_MARKER_BYTES} at `offset` @returns the end of the grain's bytes in the file */
export function endOfMarkedGrain(marker: Uint8Array, offset: number, name: string): number {
  return offset + GRAIN_MARKER_BYTES + boundedView({ bytes: marker, name, isLittleEndian: true }).u32(8); // size
}

/** @returns the offset of the footer in a file of `fileSizeBytes` */
export function placeOfVmdkFooter(fileSizeBytes: number): number {
  return alignUp(fileSizeBytes, SECTOR_SIZE_BYTES) - VMDK_FOOTER_BYTES;
}
