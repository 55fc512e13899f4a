/**
 * Reads VHDs: their footers, the block table of a dynamic disk, and where the disk lies in the file (Virtual Hard Disk
 * Image Format Specification, "Dynamic Disk Header Format" and "Block Allocation Table and Data Blocks").
 */

import { boundedView } from '../../common/bounded-view.ts';
import { alignUp, isPowerOfTwo } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { createGuestMappingBuilder, type GuestMapping, MAX_RANGE_COUNT } from '../../qcow2/read/guest-mapping.ts';
import { type OpenedFile, readUpTo, regularFileSize, statOpened } from '../../sources/opened-file.ts';
import type { FormatReader, PlainLayer } from '../format.ts';
import type { ImageFile } from '../image-file.ts';
import type { References } from '../image-references.ts';
import { type BlockTable, checkTable, type FileToCheck, truncatedError } from '../truncation-check.ts';
import { parseVpc, VPC_FOOTER_BYTES, type VpcDisk } from './vpc-footer.ts';

export const VPC_READER: FormatReader = {
  readReferences,
  async checkTruncation(image, file) {
    await checkVpc(image, file);
    return undefined;
  },
  findPlainLayer,
  repairReference: undefined,
  readExtentSize: undefined,
};

async function readReferences(file: OpenedFile): Promise<References> {
  const size = Number((await statOpened(file)).size);
  const footerAt = placeOfFooter(size);
  if (footerAt <= 0) throw new DiskliftError('FormatUnsupported', `${file.name}: is too short for a VHD`);
  const [head, footer] = [await readUpTo(file, 0, VPC_FOOTER_BYTES), await readUpTo(file, footerAt, VPC_FOOTER_BYTES)];
  const { disk, isFooterMissing } = parseVpc({ head, footer, name: file.name });
  const lost = disk.kind === 'fixed' ? footerAt - disk.sizeBytes : 0;
  const warning = isFooterMissing
    ? 'does not end with its VHD footer, so the copy in its first sector is used; its writer may not have closed it'
    : lost > 0
      ? `its VHD footer states a disk of ${disk.sizeBytes} bytes, and ${lost} more lie in front of the footer; they are left out`
      : undefined;
  return { diskSizeBytes: disk.sizeBytes, vpc: disk, ...(warning === undefined ? {} : { warning }) };
}

/** Old programs wrote 511 bytes of the footer. */
function placeOfFooter(fileSizeBytes: number): number {
  return alignUp(fileSizeBytes, VPC_FOOTER_BYTES) - VPC_FOOTER_BYTES;
}

const DYNAMIC_HEADER_BYTES = 1024;
const SIGNATURE = Buffer.from('cxsparse');
const SECTOR_SIZE_BYTES = 512;
const ENTRY_SIZE_BYTES = 4;
const UNUSED = 0xffffffff;

interface VpcBlockTable extends BlockTable {
  /** Bytes of a block, a power of two. */
  blockSizeBytes: number;
  /**
   * @param at the entry's offset in `view`
   * @returns the file offset of the block's bytes; undefined for a block that is not allocated
   */
  startOf(view: DataView, at: number): number | undefined;
}

/**
 * Entries behind the end of the disk have no meaning. The last block may be truncated at the end of the disk.
 * @param header the 1024 bytes of a dynamic disk's header
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
  // A bitmap of whole sectors, a bit for each sector of the block, lies in front of each block. As in QEMU, it matters
  // only to disks with a parent.
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

/**
 * @param onEntries receives the table entries of a dynamic disk, in order, after their blocks were found within the
 * file
 */
async function checkVpc(
  image: ImageFile,
  file: FileToCheck,
  onEntries?: (entries: Uint8Array, table: VpcBlockTable) => void,
): Promise<void> {
  const { vpc: disk } = image;
  if (disk === undefined) throw new Error(`${image.name} was not parsed`);
  if (disk.kind === 'fixed') {
    if (disk.sizeBytes > placeOfFooter(file.fileSizeBytes))
      throw truncatedError(file.name, `its disk goes on to byte ${disk.sizeBytes}`, file.fileSizeBytes);
    return;
  }
  const table = parseVpcBlockTable(await readUpTo(image, disk.headerOffset, DYNAMIC_HEADER_BYTES), disk, file.name);
  await checkTable(file, table, (entries) => onEntries?.(entries, table));
}

async function findPlainLayer(file: ImageFile): Promise<PlainLayer | undefined> {
  const fileSizeBytes = await regularFileSize(file);
  const { vpc, name } = file;
  if (fileSizeBytes === undefined || vpc === undefined) return undefined;
  return {
    files: [file],
    async readMapping({ firstFile }, { readLimit, signal }) {
      const target = { fd: file.handle.fd, name, readLimit };
      const mapping = await readMapping({ image: file, disk: vpc }, { name, target, signal, fileSizeBytes }, firstFile);
      return mapping === undefined ? undefined : { mapping };
    },
  };
}

/** @returns undefined where the disk lies in too many ranges for a mapping */
async function readMapping(
  { image, disk }: { image: ImageFile; disk: VpcDisk },
  file: FileToCheck,
  number: number,
): Promise<GuestMapping | undefined> {
  const { sizeBytes, kind } = disk;
  const builder = createGuestMappingBuilder();
  if (kind === 'fixed') {
    await checkVpc(image, file);
    builder.append(sizeBytes, { file: number, offset: 0 });
    return builder.build();
  }
  const appendBlocks = (entries: Uint8Array, table: VpcBlockTable) => {
    if (builder.rangeCount > MAX_RANGE_COUNT) return;
    const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
    for (let at = 0; at < entries.length; at += table.entrySizeBytes) {
      const offset = table.startOf(view, at);
      const length = Math.min(table.blockSizeBytes, sizeBytes - builder.sizeBytes);
      if (offset !== undefined) requireNoTable(file.name, table, { offset, length });
      builder.append(length, offset === undefined ? undefined : { file: number, offset });
    }
  };
  await checkVpc(image, file, appendBlocks);
  return builder.rangeCount > MAX_RANGE_COUNT ? undefined : builder.build();
}

/** A block that overlaps the table, or lies in front of all blocks, shows that the table is damaged. */
function requireNoTable(name: string, table: VpcBlockTable, { offset, length }: { offset: number; length: number }): void {
  const tableEnd = table.offset + table.entryCount * table.entrySizeBytes;
  if (offset >= tableEnd || offset + length <= table.offset) return;
  throw new DiskliftError(
    'SourceReadError',
    `${name}: is damaged: its ${table.what} has a block of the disk at byte ${offset}, where the table itself is; copy it once more`,
  );
}
