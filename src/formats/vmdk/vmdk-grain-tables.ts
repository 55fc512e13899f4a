/** Grain directory and grain tables of a sparse VMDK (Virtual Disk Format 5.0, "Hosted Sparse Extents", "ESX Server Sparse Extents"). */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';
import type { BlockTable } from '../block-table.ts';

export interface VmdkGrains {
  directory: BlockTable;
  /** @returns where the grain table is that this entry of the directory names; 0 where there is none */
  tableAt(entries: DataView, at: number): number;
  tableSizeBytes: number;
  /** @param index in the directory @param offset in the file */
  table(index: number, offset: number): BlockTable;
  /**
   * Compressed grains are as long as the marker in front of each says. Of those in tables that have been looked at, where the last one in the
   * file begins; 0 when there are none with markers.
   */
  lastMarkerOffset(): number;
}

export const VMDK_FOOTER_BYTES = 3 * 512;
/** A sector is a footer marker, the next one a header. */
export const VMDK_FOOTER_HEADER_AT = 512;
export const GRAIN_MARKER_BYTES = 12;

const COWD = 0x44574f43;
const SECTOR_SIZE_BYTES = 512;
const ENTRY_SIZE_BYTES = 4;
const COWD_TABLE_ENTRIES = 4096;
const MAX_TABLE_ENTRIES = 512;
/** 64 TiB in grains of 64 KiB; the file can have 2 TiB of them. */
const MAX_TABLE_COUNT = 2 ** 21;
/** Of GD_AT_END, which is all ones. */
const GD_AT_END_HALF = 0xffffffff;
const ZERO_GRAIN_FLAG = 1 << 2;
const MARKERS_FLAG = 1 << 17;
/** Of a grain that is zeros, with that flag. */
const ZEROED = 1;

/**
 * @param header the file's first sector
 * @returns whether the one in the file's footer is to be read in its place
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

/** @param header one that parseVmdkSparseHeader understands @throws DiskliftError `FormatUnsupported` */
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

/** @param marker {@link GRAIN_MARKER_BYTES} from `offset` on @returns where the grain's bytes end in the file */
export function endOfMarkedGrain(marker: Uint8Array, offset: number, name: string): number {
  return offset + GRAIN_MARKER_BYTES + boundedView({ bytes: marker, name, isLittleEndian: true }).u32(8); // size
}

/** @returns where the footer of a file of `fileSizeBytes` begins */
export function placeOfVmdkFooter(fileSizeBytes: number): number {
  return alignUp(fileSizeBytes, SECTOR_SIZE_BYTES) - VMDK_FOOTER_BYTES;
}
