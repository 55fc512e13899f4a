/** Reads the mapping of a VHD's disk to its file. As in QEMU, the bitmaps in front of blocks matter only to disks with a parent. */

import { DiskliftError } from '../../common/errors.ts';
import { createGuestMappingBuilder, type GuestMapping } from '../../qcow2/read/guest-mapping.ts';
import { MAX_RANGE_COUNT } from '../../qcow2/read/overlay-mapping.ts';
import type { FileToCheck } from '../check-tables.ts';
import type { ImageFile } from '../image-tree.ts';
import { checkVpc } from './check-vpc.ts';
import type { VpcBlockTable } from './vpc-block-table.ts';
import type { VpcDisk } from './vpc-footer.ts';

/**
 * @param number the mapping's number for the file
 * @returns undefined where the disk lies in too many pieces for a mapping
 * @throws DiskliftError `SourceReadError`, also for a truncated or damaged VHD; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function readVpcMapping(
  image: ImageFile & { vpc: VpcDisk },
  file: FileToCheck,
  number: number,
): Promise<GuestMapping | undefined> {
  const { sizeBytes, kind } = image.vpc;
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
