/** Checks that a VHD is not truncated. */

import { alignUp } from '../../common/bytes.ts';
import { readUpTo } from '../../sources/opened-file.ts';
import { cutShort } from '../block-table.ts';
import { checkTable, type FileToCheck } from '../check-tables.ts';
import type { ImageFile } from '../image-tree.ts';
import { parseVpcBlockTable, VPC_DYNAMIC_HEADER_BYTES, type VpcBlockTable } from './vpc-block-table.ts';
import { VPC_FOOTER_BYTES } from './vpc-footer.ts';

/**
 * @param onEntries receives the table entries of a dynamic disk, in order, after their blocks were found within the file
 * @throws DiskliftError `SourceReadError`, also for a truncated VHD; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function checkVpc(
  image: ImageFile,
  file: FileToCheck,
  onEntries?: (entries: Uint8Array, table: VpcBlockTable) => void,
): Promise<void> {
  const { vpc: disk } = image;
  if (disk === undefined) throw new Error(`${image.name} was not parsed`);
  if (disk.kind === 'fixed') {
    const footerAt = alignUp(file.fileSizeBytes, VPC_FOOTER_BYTES) - VPC_FOOTER_BYTES;
    if (disk.sizeBytes > footerAt) throw cutShort(file.name, `its disk goes on to byte ${disk.sizeBytes}`, file.fileSizeBytes);
    return;
  }
  const table = parseVpcBlockTable(await readUpTo(image, disk.headerOffset, VPC_DYNAMIC_HEADER_BYTES), disk, file.name);
  await checkTable(file, table, (entries) => onEntries?.(entries, table));
}
