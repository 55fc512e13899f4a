/** Whether a VMDK has all its grains, or its descriptor all its extents. */

import { DiskliftError } from '../../common/errors.ts';
import { type OpenedFile, readUpTo } from '../../sources/opened-file.ts';
import { checkEntries, cutShort } from '../block-table.ts';
import { checkTable, type FileToCheck } from '../check-tables.ts';
import { readTables } from '../qcow2/read-tables.ts';
import { MAX_DESCRIPTOR_BYTES, parseVmdkDescriptor } from './vmdk-descriptor.ts';
import {
  endOfMarkedGrain,
  GRAIN_MARKER_BYTES,
  isFooterUsed,
  parseVmdkGrains,
  placeOfVmdkFooter,
  VMDK_FOOTER_BYTES,
  VMDK_FOOTER_HEADER_AT,
  type VmdkGrains,
} from './vmdk-grain-tables.ts';
import { parseVmdkSparseHeader, SPARSE_HEADER_BYTES } from './vmdk-sparse-header.ts';

/** @throws DiskliftError `FormatUnsupported` when nothing shows that the extents are all of them; `SourceReadError` */
export async function checkVmdkDescriptor(opened: OpenedFile): Promise<void> {
  const { name } = opened;
  const { hasEnd } = parseVmdkDescriptor(await readUpTo(opened, 0, MAX_DESCRIPTOR_BYTES), name);
  if (!hasEnd)
    throw new DiskliftError(
      'FormatUnsupported',
      `${name}: its descriptor ends with its extents, so more may have been cut off; where these are all, add the line # End`,
    );
}

/**
 * A sparse one, or a sparse extent of one.
 * @throws DiskliftError `SourceReadError` for one that was cut short, too; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function checkVmdk(opened: OpenedFile, file: FileToCheck): Promise<void> {
  const header = await readHeader(opened, file);
  const grains = parseVmdkGrains(header, file.name);
  const offsets = await readDirectory(grains, file);
  await checkGrainTables(grains, offsets, file);
  const offset = grains.lastMarkerOffset();
  if (offset === 0) return;
  const end = endOfMarkedGrain(await readUpTo(opened, offset, GRAIN_MARKER_BYTES), offset, file.name);
  if (end > file.fileSizeBytes) throw cutShort(file.name, `its last grain at byte ${offset} goes on to byte ${end}`, file.fileSizeBytes);
}

async function readHeader(opened: OpenedFile, { name, fileSizeBytes }: FileToCheck): Promise<Uint8Array> {
  const head = await readUpTo(opened, 0, SPARSE_HEADER_BYTES);
  if (!isFooterUsed(head, name)) return head;
  const footer = await readUpTo(opened, Math.max(0, placeOfVmdkFooter(fileSizeBytes)), VMDK_FOOTER_BYTES);
  const header = footer.subarray(VMDK_FOOTER_HEADER_AT, VMDK_FOOTER_HEADER_AT + SPARSE_HEADER_BYTES);
  const size = parseVmdkSparseHeader(header, name)?.sizeBytes;
  if (size === undefined || isFooterUsed(header, name))
    throw cutShort(name, 'it has no footer, which says where its grains are', fileSizeBytes);
  if (size !== parseVmdkSparseHeader(head, name)?.sizeBytes)
    throw new DiskliftError('FormatUnsupported', `${name}: its VMDK header and its footer contradict each other`);
  return header;
}

/** @returns where the grain tables are; 0 where there is none */
async function readDirectory({ directory, tableAt }: VmdkGrains, file: FileToCheck): Promise<Float64Array> {
  const offsets = new Float64Array(directory.entryCount);
  let index = 0;
  await checkTable(file, directory, (piece) => {
    const view = new DataView(piece.buffer, piece.byteOffset, piece.byteLength);
    for (let at = 0; at < piece.length; at += directory.entrySizeBytes, index += 1) offsets[index] = tableAt(view, at);
  });
  return offsets;
}

async function checkGrainTables(grains: VmdkGrains, offsets: Float64Array, file: FileToCheck): Promise<void> {
  const tables = { offsets, tableSizeBytes: grains.tableSizeBytes, signal: file.signal };
  for await (const batch of readTables(file.target, tables))
    for (const { index, offset, bytes } of batch) checkEntries(bytes, 0, grains.table(index, offset), file);
}
