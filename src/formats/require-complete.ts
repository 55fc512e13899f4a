/**
 * Whether the files of an image hold all that their tables point at. QEMU reads zeros behind a file's end, so an image that was cut short,
 * as by a copy that was interrupted, would be exported with zeros in place of what it has lost.
 */

import type { Semaphore } from '../common/semaphore.ts';
import type { Libc } from '../native/libc.ts';
import { dropCachedPages } from '../native/page-cache.ts';
import { fileSize, type OpenedFile, readUpTo } from '../sources/opened-file.ts';
import { checkTable, type FileToCheck } from './check-tables.ts';
import type { ImageFile } from './image-tree.ts';
import type { ImageFiles } from './open-image-files.ts';
import { checkQcow2 } from './qcow2/check-qcow2.ts';
import { EXPLICIT_ZEROS_NOTICE } from './qcow2/explicit-zeros-notice.ts';
import { parseVdiBlockMap } from './vdi/vdi-block-map.ts';
import { VDI_HEADER_BYTES } from './vdi/vdi-header.ts';
import { parseVhdxBlockTable } from './vhdx/vhdx-block-table.ts';
import {
  FILE_PARAMETERS_BYTES,
  parseVhdxRegions,
  placeOfVhdxBlockTable,
  placesOfVhdxDiskItems,
  REGION_TABLE_OFFSET,
  VHDX_TABLE_BYTES,
} from './vhdx/vhdx-metadata.ts';
import { checkVmdk, checkVmdkDescriptor } from './vmdk/check-vmdk.ts';
import { checkVpc } from './vpc/check-vpc.ts';

export interface RequireCompleteOptions {
  libc: Libc | undefined;
  readLimit: Semaphore;
  signal: AbortSignal;
}

/**
 * Reads all tables of the image, a piece at a time. A raw file states no length, so it cannot be checked.
 * @returns a notice for the user, or undefined
 * @throws DiskliftError `SourceReadError` that names the file and the data past its end; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function requireComplete(
  { root, files, watched }: ImageFiles,
  { libc, readLimit, signal }: RequireCompleteOptions,
): Promise<string | undefined> {
  const isDevice = watched.some(({ stat }) => stat.isBlockDevice());
  let notice: string | undefined;
  for (const image of files) {
    const { handle, name } = image;
    // Another node may have written to it since pages were cached.
    if (isDevice && libc !== undefined) await dropCachedPages(libc, handle.fd, 0, 0);
    const target = { fd: handle.fd, name, readLimit };
    const found = await checkFile(image, { name, target, signal, fileSizeBytes: await fileSize(image, libc) }, libc);
    if (image === root && image.backing === undefined && found?.hasExplicitZeros) notice = EXPLICIT_ZEROS_NOTICE;
  }
  return notice;
}

async function checkFile(image: ImageFile, file: FileToCheck, libc: Libc | undefined): Promise<{ hasExplicitZeros: boolean } | undefined> {
  const { format, dataFile, extents } = image;
  if (format === 'qcow2') return checkQcow2(image, file, dataFile === undefined ? undefined : await fileSize(dataFile, libc));
  if (format === 'vmdk') await (extents === undefined ? checkVmdk(image, file) : checkVmdkDescriptor(image));
  else if (format === 'vdi') await checkTable(file, parseVdiBlockMap(await readUpTo(image, 0, VDI_HEADER_BYTES), file.name));
  else if (format === 'vpc') await checkVpc(image, file);
  else if (format === 'vhdx') await checkVhdx(image, file);
  return undefined;
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
