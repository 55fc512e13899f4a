/** VHDs like those of programs other than QEMU, built from the specification. */

const SECTOR_BYTES = 512;
const CHECKSUM_AT = 64;

export interface VhdFooter {
  diskSizeBytes: number;
  /** Four characters: the creator application. */
  creator?: string;
  type?: 'fixed' | 'dynamic' | 'differencing';
  /** Offset of a dynamic disk's header. */
  headerOffset?: number;
  /** Cylinders, heads, sectors per track; computed as in the specification's appendix when left out. */
  geometry?: readonly [number, number, number];
}

const TYPES = { fixed: 2, dynamic: 3, differencing: 4 };

export function vhdFooter({ diskSizeBytes, creator = 'xo  ', type = 'fixed', headerOffset, geometry }: VhdFooter): Buffer {
  const footer = Buffer.alloc(SECTOR_BYTES);
  const [cylinders, heads, sectors] = geometry ?? geometryOf(diskSizeBytes);
  footer.write('conectix', 0);
  footer.writeUInt32BE(2, 8);
  footer.writeUInt32BE(0x10000, 12);
  footer.writeBigUInt64BE(headerOffset === undefined ? 2n ** 64n - 1n : BigInt(headerOffset), 16);
  footer.write(creator.padEnd(4, '\0'), 28, 'latin1');
  footer.writeBigUInt64BE(BigInt(diskSizeBytes), 40);
  footer.writeBigUInt64BE(BigInt(diskSizeBytes), 48);
  footer.writeUInt16BE(cylinders, 56);
  footer.writeUInt8(heads, 58);
  footer.writeUInt8(sectors, 59);
  footer.writeUInt32BE(TYPES[type], 60);
  footer.writeUInt32BE(checksum(footer), CHECKSUM_AT);
  return footer;
}

/**
 * Virtual Hard Disk Image Format Specification, "Appendix: CHS Calculation", for disks below 31 GiB: rounded down to
 * whole cylinders.
 */
function geometryOf(diskSizeBytes: number): [number, number, number] {
  const total = diskSizeBytes / SECTOR_BYTES;
  let sectors = 17;
  let perTrack = Math.floor(total / sectors);
  let heads = Math.max(4, Math.floor((perTrack + 1023) / 1024));
  for (const larger of [31, 63]) {
    if (perTrack < heads * 1024 && heads <= 16) break;
    sectors = larger;
    heads = 16;
    perTrack = Math.floor(total / sectors);
  }
  return [Math.floor(perTrack / heads), heads, sectors];
}

function checksum(bytes: Uint8Array): number {
  return ~bytes.reduce((sum, byte) => sum + byte, 0) >>> 0;
}

export function fixedVhd(content: Buffer, footer: Partial<VhdFooter> = {}): Buffer {
  return Buffer.concat([content, vhdFooter({ diskSizeBytes: content.length, ...footer })]);
}

export interface DynamicVhd {
  creator?: string;
  blockSizeBytes?: number;
  /** Entries of the table; as many as the disk needs when left out. */
  entryCount?: number;
  /** True when left out: the file ends with its footer. */
  hasFooter?: boolean;
  /** Whether the file ends its last block at the end of the disk. */
  cutsLastBlock?: boolean;
}

/** Blocks of zeros are left out. */
export function dynamicVhd(
  content: Buffer,
  { creator = 'xo  ', blockSizeBytes = 2 ** 21, entryCount, hasFooter = true, cutsLastBlock = false }: DynamicVhd = {},
): Buffer {
  const blockCount = Math.ceil(content.length / blockSizeBytes);
  const headerOffset = SECTOR_BYTES;
  const tableOffset = headerOffset + 1024;
  const entries = entryCount ?? blockCount;
  const table = Buffer.alloc(Math.ceil((entries * 4) / SECTOR_BYTES) * SECTOR_BYTES, 0xff);
  const bitmap = Buffer.alloc(Math.ceil(blockSizeBytes / SECTOR_BYTES / 8 / SECTOR_BYTES) * SECTOR_BYTES, 0xff);
  const blocks: Buffer[] = [];
  let at = tableOffset + table.length;
  for (let index = 0; index < blockCount; index += 1) {
    const data = content.subarray(index * blockSizeBytes, (index + 1) * blockSizeBytes);
    if (data.equals(Buffer.alloc(data.length))) continue;
    table.writeUInt32BE(at / SECTOR_BYTES, index * 4);
    const block = Buffer.alloc(cutsLastBlock ? data.length : blockSizeBytes);
    data.copy(block);
    blocks.push(bitmap, block);
    at += bitmap.length + block.length;
  }
  const header = Buffer.alloc(1024);
  header.write('cxsparse', 0);
  header.writeBigUInt64BE(2n ** 64n - 1n, 8);
  header.writeBigUInt64BE(BigInt(tableOffset), 16);
  header.writeUInt32BE(0x10000, 24);
  header.writeUInt32BE(entries, 28);
  header.writeUInt32BE(blockSizeBytes, 32);
  header.writeUInt32BE(checksum(header), 36);
  const footer = vhdFooter({ diskSizeBytes: content.length, creator, type: 'dynamic', headerOffset });
  return Buffer.concat([footer, header, table, ...blocks, ...(hasFooter ? [footer] : [])]);
}
