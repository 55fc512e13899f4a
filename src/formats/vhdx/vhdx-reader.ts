/** Reads VHDX images (MS-VHDX): their metadata, and their block allocation table. */

import { boundedView } from '../../common/bounded-view.ts';
import { isPowerOfTwo, MIB } from '../../common/bytes.ts';
import { type OpenedFile, readUpTo } from '../../sources/opened-file.ts';
import type { FormatReader } from '../format.ts';
import type { References } from '../image-references.ts';
import { type BlockTable, checkTable, type FileToCheck } from '../truncation-check.ts';

export const REGION_TABLE_OFFSET = 192 * 1024;
export const VHDX_TABLE_BYTES = 64 * 1024;
export const FILE_PARAMETERS_BYTES = 8;

export const VHDX_READER: FormatReader = {
  readReferences,
  async checkTruncation(image, file) {
    await checkVhdx(image, file);
    return undefined;
  },
  findPlainLayer: undefined,
  repairReference: undefined,
  readExtentSize: undefined,
};

async function readReferences(file: OpenedFile): Promise<References> {
  const { name } = file;
  const metadata = parseVhdxRegions(await readUpTo(file, REGION_TABLE_OFFSET, VHDX_TABLE_BYTES), name);
  const table = await readUpTo(file, metadata, VHDX_TABLE_BYTES);
  const parameters = parseVhdxMetadata(table, name);
  requireNoVhdxParent(await readUpTo(file, metadata + parameters, FILE_PARAMETERS_BYTES), name);
  const places = placesOfVhdxDiskItems(table, name);
  const item = (offset: number) => readUpTo(file, metadata + offset, FILE_PARAMETERS_BYTES);
  const [diskSize, logicalSectorSize] = [await item(places.diskSize), await item(places.logicalSectorSize)];
  return { diskSizeBytes: parseVhdxDiskSize({ diskSize, logicalSectorSize, name }) };
}

async function checkVhdx(image: OpenedFile, file: FileToCheck): Promise<void> {
  const { name } = file;
  const regions = await readUpTo(image, REGION_TABLE_OFFSET, VHDX_TABLE_BYTES);
  const metadata = parseVhdxRegions(regions, name);
  const places = placesOfVhdxDiskItems(await readUpTo(image, metadata, VHDX_TABLE_BYTES), name);
  const item = (offset: number) => readUpTo(image, metadata + offset, FILE_PARAMETERS_BYTES);
  const table = parseVhdxBlockTable({
    name,
    offset: placeOfVhdxBlockTable(regions, name),
    fileParameters: await item(places.fileParameters),
    diskSize: await item(places.diskSize),
    logicalSectorSize: await item(places.logicalSectorSize),
  });
  await checkTable(file, table);
}

const REGION_SIGNATURE = 0x69676572; // "regi"
const METADATA_SIGNATURE = Buffer.from('metadata');
const MAX_ENTRY_COUNT = 2047;
const ENTRY_BYTES = 32;
const HAS_PARENT = 2;
const READABLE_SECTOR_SIZE_BYTES = 512;

/** GUIDs in the byte order of the file. */
const METADATA_REGION = Buffer.from('06a27c8b90479a4bb8fe575f050f886e', 'hex');
const BLOCK_TABLE_REGION = Buffer.from('6677c22d23f600429d64115e9bfd4a08', 'hex');
const FILE_PARAMETERS = Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex');
const DISK_SIZE = Buffer.from('2442a52f1bcd7648b2115dbed83bf4b8', 'hex');
const LOGICAL_SECTOR_SIZE = Buffer.from('1dbf41816fa90947ba47f233a8faab5f', 'hex');
const PARENT_LOCATOR = Buffer.from('2d5fd3a80bb34d45abf7d3d84834ab0c', 'hex');

/**
 * @param table {@link VHDX_TABLE_BYTES} from {@link REGION_TABLE_OFFSET} on
 * @returns the offset of the metadata table
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseVhdxRegions(table: Uint8Array, name: string): number {
  return placeOfRegion(table, { guid: METADATA_REGION, what: 'metadata', name });
}

/**
 * @param table as {@link parseVhdxRegions} takes it
 * @returns the offset of the block allocation table
 * @throws DiskliftError `FormatUnsupported`
 */
export function placeOfVhdxBlockTable(table: Uint8Array, name: string): number {
  return placeOfRegion(table, { guid: BLOCK_TABLE_REGION, what: 'block allocation table', name });
}

function placeOfRegion(table: Uint8Array, { guid, what, name }: { guid: Buffer; what: string; name: string }): number {
  const view = boundedView({ bytes: table, name, isLittleEndian: true });
  if (view.u32(0) !== REGION_SIGNATURE) throw view.refuse('has no valid VHDX region table; is it a VHDX image?');
  const at = findEntry(table, { first: 16, count: view.u32(8), guid, name });
  if (at === undefined) throw view.refuse(`its VHDX region table has no entry for the ${what}`);
  return view.u64(at + 16); // FileOffset
}

/**
 * @param table the first {@link VHDX_TABLE_BYTES} of the metadata region
 * @returns the offset of the file parameters in the region
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseVhdxMetadata(table: Uint8Array, name: string): number {
  const view = boundedView({ bytes: table, name, isLittleEndian: true });
  if (!METADATA_SIGNATURE.equals(table.subarray(0, METADATA_SIGNATURE.length))) throw view.refuse('has no valid VHDX metadata table');
  const entries = { first: 32, count: view.u16(10), name };
  const at = findEntry(table, { ...entries, guid: FILE_PARAMETERS });
  if (at === undefined) throw view.refuse('its VHDX metadata has no file parameters');
  if (findEntry(table, { ...entries, guid: PARENT_LOCATOR }) !== undefined) throw differencing(view);
  return view.u32(at + 16); // Offset
}

/** Offsets in the metadata region of the items that state how the disk is divided. */
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

/** @param item the file parameters @throws DiskliftError `FormatUnsupported` for a disk that has a parent */
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
  if (count > MAX_ENTRY_COUNT || first + count * ENTRY_BYTES > table.length) throw refuse(`no VHDX table can have ${count} entries`);
  for (let at = first; at < first + count * ENTRY_BYTES; at += ENTRY_BYTES)
    if (guid.equals(table.subarray(at, at + guid.length))) return at;
  return undefined;
}

export interface VhdxDisk {
  /** Offset of the block allocation table in the file. */
  offset: number;
  /** The items of the metadata region; each may have further bytes behind it. */
  fileParameters: Uint8Array;
  diskSize: Uint8Array;
  logicalSectorSize: Uint8Array;
  /** Name of the file, for messages. */
  name: string;
}

const ENTRY_SIZE_BYTES = 8;
const STATE_BITS = 7;
const FULLY_PRESENT = 6;
/** FileOffsetMB begins at bit 20. */
const OFFSET_LOW = 0xfff00000;
/** Number of sectors that one sector bitmap block describes. */
const SECTORS_PER_BITMAP = 2 ** 23;
const MAX_BLOCK_SIZE_BYTES = 256 * MIB;

/** @throws DiskliftError `FormatUnsupported` */
export function parseVhdxBlockTable({ offset, name, ...items }: VhdxDisk): BlockTable {
  const view = (bytes: Uint8Array) => boundedView({ bytes, name, isLittleEndian: true });
  const blockSizeBytes = view(items.fileParameters).u32(0); // BlockSize
  const diskSizeBytes = view(items.diskSize).u64(0); // VirtualDiskSize
  const sectorSizeBytes = view(items.logicalSectorSize).u32(0); // LogicalSectorSize
  const isBlockSize = isPowerOfTwo(blockSizeBytes) && blockSizeBytes >= MIB && blockSizeBytes <= MAX_BLOCK_SIZE_BYTES;
  if (!isBlockSize || (sectorSizeBytes !== 512 && sectorSizeBytes !== 4096))
    throw view(items.fileParameters).refuse(`no VHDX has blocks of ${blockSizeBytes} bytes and sectors of ${sectorSizeBytes}`);
  // After this many entries of blocks comes one of a bitmap, which matters only to disks with a parent.
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
