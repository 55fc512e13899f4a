/** Whether a VHDX has a parent, and where its disk is (MS-VHDX 2.2.3 "Region Table", 2.2.4 "Metadata Region"), in steps that are told where to read. */

import { boundedView } from '../../common/bounded-view.ts';

export const REGION_TABLE_OFFSET = 192 * 1024;
export const VHDX_TABLE_BYTES = 64 * 1024;
export const FILE_PARAMETERS_BYTES = 8;

const REGION_SIGNATURE = 0x69676572; // "regi"
const METADATA_SIGNATURE = Buffer.from('metadata');
const MAX_ENTRY_COUNT = 2047;
const ENTRY_BYTES = 32;
const HAS_PARENT = 2;
const READABLE_SECTOR_SIZE_BYTES = 512;

/** GUIDs as they lie in the file. */
const METADATA_REGION = Buffer.from('06a27c8b90479a4bb8fe575f050f886e', 'hex');
const BLOCK_TABLE_REGION = Buffer.from('6677c22d23f600429d64115e9bfd4a08', 'hex');
const FILE_PARAMETERS = Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex');
const DISK_SIZE = Buffer.from('2442a52f1bcd7648b2115dbed83bf4b8', 'hex');
const LOGICAL_SECTOR_SIZE = Buffer.from('1dbf41816fa90947ba47f233a8faab5f', 'hex');
const PARENT_LOCATOR = Buffer.from('2d5fd3a80bb34d45abf7d3d84834ab0c', 'hex');

/** @param table {@link VHDX_TABLE_BYTES} from {@link REGION_TABLE_OFFSET} on @returns where the metadata table is. @throws DiskliftError `FormatUnsupported` */
export function parseVhdxRegions(table: Uint8Array, name: string): number {
  return placeOfRegion(table, { guid: METADATA_REGION, what: 'metadata', name });
}

/** @param table as {@link parseVhdxRegions} takes it @returns where the block allocation table is. @throws DiskliftError `FormatUnsupported` */
export function placeOfVhdxBlockTable(table: Uint8Array, name: string): number {
  return placeOfRegion(table, { guid: BLOCK_TABLE_REGION, what: 'block allocation table', name });
}

function placeOfRegion(table: Uint8Array, { guid, what, name }: { guid: Buffer; what: string; name: string }): number {
  const view = boundedView({ bytes: table, name, isLittleEndian: true });
  if (view.u32(0) !== REGION_SIGNATURE) throw view.refuse('its VHDX region table is none');
  const at = findEntry(table, { first: 16, count: view.u32(8), guid, name });
  if (at === undefined) throw view.refuse(`its VHDX region table names no ${what}`);
  return view.u64(at + 16); // FileOffset
}

/** @param table {@link VHDX_TABLE_BYTES} of the metadata region @returns where in the region its file parameters are. @throws DiskliftError `FormatUnsupported` */
export function parseVhdxMetadata(table: Uint8Array, name: string): number {
  const view = boundedView({ bytes: table, name, isLittleEndian: true });
  if (!METADATA_SIGNATURE.equals(table.subarray(0, METADATA_SIGNATURE.length))) throw view.refuse('its VHDX metadata table is none');
  const entries = { first: 32, count: view.u16(10), name };
  const at = findEntry(table, { ...entries, guid: FILE_PARAMETERS });
  if (at === undefined) throw view.refuse('its VHDX metadata has no file parameters');
  if (findEntry(table, { ...entries, guid: PARENT_LOCATOR }) !== undefined) throw differencing(view);
  return view.u32(at + 16); // Offset
}

/** Where in the metadata region the items are that say how the disk is divided. */
export interface VhdxDiskItems {
  fileParameters: number;
  /** 8 bytes. */
  diskSize: number;
  /** 4 bytes. */
  logicalSectorSize: number;
}

/** @param table as {@link parseVhdxMetadata} takes it @throws DiskliftError `FormatUnsupported` */
export function placesOfVhdxDiskItems(table: Uint8Array, name: string): VhdxDiskItems {
  const view = boundedView({ bytes: table, name, isLittleEndian: true });
  const offsetOf = (guid: Buffer) => {
    const at = findEntry(table, { first: 32, count: view.u16(10), guid, name });
    if (at === undefined) throw view.refuse('its VHDX metadata does not say how its disk is divided');
    return view.u32(at + 16); // Offset
  };
  return { fileParameters: offsetOf(FILE_PARAMETERS), diskSize: offsetOf(DISK_SIZE), logicalSectorSize: offsetOf(LOGICAL_SECTOR_SIZE) };
}

/** @param item {@link FILE_PARAMETERS_BYTES} @throws DiskliftError `FormatUnsupported` for a disk that has a parent */
export function requireNoVhdxParent(item: Uint8Array, name: string): void {
  const view = boundedView({ bytes: item, name, isLittleEndian: true });
  if ((view.u32(4) & HAS_PARENT) !== 0) throw differencing(view);
}

/**
 * @returns the size of the disk in bytes
 * @throws DiskliftError `FormatUnsupported` for a sector size that QEMU does not support
 */
export function parseVhdxDiskSize(items: { diskSize: Uint8Array; logicalSectorSize: Uint8Array; name: string }): number {
  const { name } = items;
  const view = (bytes: Uint8Array) => boundedView({ bytes, name, isLittleEndian: true });
  const sectorSizeBytes = view(items.logicalSectorSize).u32(0); // LogicalSectorSize
  if (sectorSizeBytes !== READABLE_SECTOR_SIZE_BYTES)
    throw view(items.logicalSectorSize).refuse(
      `its disk has logical sectors of ${sectorSizeBytes} bytes, and QEMU reads VHDX of ${READABLE_SECTOR_SIZE_BYTES}-byte sectors only; copy the disk to such a VHDX in a VM that has both`,
    );
  return view(items.diskSize).u64(0); // VirtualDiskSize
}

const differencing = (view: { refuse(why: string): Error }) =>
  view.refuse('is a differencing VHDX, which cannot be read; merge it with its parent');

interface Entries {
  first: number;
  count: number;
  guid: Buffer;
  name: string;
}

function findEntry(table: Uint8Array, { first, count, guid, name }: Entries): number | undefined {
  const { refuse } = boundedView({ bytes: table, name });
  if (count > MAX_ENTRY_COUNT || first + count * ENTRY_BYTES > table.length)
    throw refuse(`a VHDX table of it cannot have ${count} entries`);
  for (let at = first; at < first + count * ENTRY_BYTES; at += ENTRY_BYTES)
    if (guid.equals(table.subarray(at, at + guid.length))) return at;
  return undefined;
}
