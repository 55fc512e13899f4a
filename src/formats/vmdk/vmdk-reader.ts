/** Reads VMDKs: their references, the extents of a flat disk, and whether they are truncated. */

import path from 'node:path';
import { DiskliftError } from '../../common/errors.ts';
import { createGuestMappingBuilder, type GuestMapping } from '../../qcow2/read/guest-mapping.ts';
import { type OpenedFile, readExactly, readUpTo } from '../../sources/opened-file.ts';
import type { FormatReader, PlainLayer } from '../format.ts';
import type { ImageFile, PlainExtent } from '../image-file.ts';
import type { References } from '../image-references.ts';
import { type ReadBytes, readTables } from '../read-tables.ts';
import { checkEntries, checkTable, type FileToCheck, truncatedError } from '../truncation-check.ts';
import { MAX_DESCRIPTOR_BYTES, parseVmdkDescriptor, parseVmdkExtents, requireOwnExtent, type VmdkDescriptor } from './vmdk-descriptor.ts';
import { vmdkPartOf } from './vmdk-names.ts';
import {
  endOfMarkedGrain,
  GRAIN_MARKER_BYTES,
  isFooterUsed,
  parseVmdkGrains,
  parseVmdkSparseHeader,
  placeOfVmdkFooter,
  SPARSE_HEADER_BYTES,
  VMDK_FOOTER_BYTES,
  VMDK_FOOTER_HEADER_AT,
  type VmdkGrains,
  type VmdkSparseHeader,
} from './vmdk-sparse.ts';

export const VMDK_READER: FormatReader = {
  readReferences,
  async checkTruncation(image, file) {
    await (image.extents === undefined ? checkSparse(image, file) : checkDescriptor(image));
    return undefined;
  },
  findPlainLayer,
  repairReference: ({ newName }) => `write its relative name, ${JSON.stringify(newName)}, into the descriptor`,
  readExtentSize: readSparseExtentHeader,
};

/** Magic of a tar archive (POSIX, "ustar Interchange Format"). */
const TAR_MAGIC = 'ustar';
const TAR_MAGIC_AT = 257;

/** @throws DiskliftError `FormatUnsupported` for a file that is no VMDK or an unsupported one, `SourceReadError` */
async function readReferences(file: OpenedFile): Promise<References> {
  const { name } = file;
  const header = parseVmdkSparseHeader(await readUpTo(file, 0, SPARSE_HEADER_BYTES), name);
  if (header === undefined) return readDescriptorFile(file);
  const descriptor = await embeddedDescriptor(file, header);
  if (descriptor === undefined) throw refusal(name, `is a part of a VMDK, not a disk; name ${describedBy(name)}`);
  const { contentId, parent, extentLines, hasContentIdsForQemu } = descriptor;
  requireOwnExtent(extentLines, header, name);
  if (!hasContentIdsForQemu)
    throw refusal(name, 'its descriptor has no CID or no parentCID that QEMU finds; state parentCID=ffffffff there if it has no parent');
  const own = { diskSizeBytes: header.sizeBytes, ...(contentId === undefined ? {} : { contentId }) };
  if (parent === undefined) return own;
  return { ...own, backing: { name: parent.name, format: 'vmdk' }, parentContentId: parent.contentId };
}

async function readDescriptorFile(file: OpenedFile): Promise<References> {
  const { name } = file;
  const bytes = await readUpTo(file, 0, MAX_DESCRIPTOR_BYTES + 1);
  const { extentLines, contentId, parent } = parseVmdkDescriptor(bytes, name);
  if (extentLines.length === 0) throw refusal(name, whyNoVmdk(bytes, name));
  // A parent would have to lie behind each extent, and QEMU does not do that.
  if (parent !== undefined)
    throw refusal(name, 'is a VMDK snapshot in several files, which cannot be read; consolidate the snapshots of its VM first');
  return { extents: parseVmdkExtents(extentLines, name), ...(contentId === undefined ? {} : { contentId }) };
}

/** Names the kind of the file, and gives advice. */
function whyNoVmdk(bytes: Buffer, name: string): string {
  if (bytes.toString('latin1', TAR_MAGIC_AT, TAR_MAGIC_AT + TAR_MAGIC.length) === TAR_MAGIC)
    return 'is a tar archive, as an OVA is, and no VMDK; unpack it and name the .vmdk in it';
  const part = vmdkPartOf(name);
  if (part === undefined)
    return 'has neither the header of a sparse VMDK nor a descriptor that lists extents; if it is a raw disk, state the format raw';
  const orAsRaw = part.isWholeDisk ? ', or state the format raw' : '';
  return `is a file that a VMDK's descriptor stands for; name ${describedBy(name)}${orAsRaw}`;
}

/** @returns the file to name instead of a part, as far as the part's name shows it */
function describedBy(name: string): string {
  const part = vmdkPartOf(name);
  return part === undefined ? 'the file that describes the whole' : path.join(path.dirname(name), part.descriptorName);
}

async function embeddedDescriptor(file: OpenedFile, { descriptor }: VmdkSparseHeader): Promise<VmdkDescriptor | undefined> {
  if (descriptor === undefined) return undefined;
  const bytes = await readUpTo(file, descriptor.offset, descriptor.length);
  return bytes.length === 0 || bytes[0] === 0 ? undefined : parseVmdkDescriptor(bytes, file.name);
}

/**
 * Reads a file that a descriptor names.
 * @returns its header, which states its part of the disk
 * @throws DiskliftError as {@link readReferences}
 */
async function readSparseExtentHeader(file: OpenedFile): Promise<VmdkSparseHeader> {
  const header = parseVmdkSparseHeader(await readUpTo(file, 0, SPARSE_HEADER_BYTES), file.name);
  if (header === undefined) throw refusal(file.name, 'not a sparse extent of a VMDK');
  const descriptor = await embeddedDescriptor(file, header);
  if (descriptor?.parent !== undefined) throw refusal(file.name, 'a part of a VMDK that has a parent of its own');
  return header;
}

function refusal(name: string, why: string): DiskliftError {
  return new DiskliftError('FormatUnsupported', `${name}: ${why}`);
}

/** The extents are regular files, because no other kind is opened beneath a volume. */
async function findPlainLayer(file: ImageFile): Promise<PlainLayer | undefined> {
  const { extents } = file;
  if (!extents?.every((extent) => extent.kind !== 'sparse')) return undefined;
  const files = [...new Set(extents.flatMap((extent) => (extent.kind === 'flat' ? [extent.file] : [])))];
  return {
    files,
    async readMapping({ firstFile }) {
      await checkDescriptor(file);
      return { mapping: mappingOf(extents, (each) => firstFile + files.indexOf(each)) };
    },
  };
}

function mappingOf(extents: readonly PlainExtent[], numberOf: (file: ImageFile) => number): GuestMapping {
  const builder = createGuestMappingBuilder();
  for (const extent of extents)
    builder.append(extent.sizeBytes, extent.kind === 'zero' ? undefined : { file: numberOf(extent.file), offset: extent.offsetBytes });
  return builder.build();
}

/**
 * @throws DiskliftError `FormatUnsupported` when nothing shows that the descriptor lists all extents; `SourceReadError`
 */
async function checkDescriptor(opened: OpenedFile): Promise<void> {
  const { name } = opened;
  const { hasEnd } = parseVmdkDescriptor(await readUpTo(opened, 0, MAX_DESCRIPTOR_BYTES), name);
  if (!hasEnd)
    throw new DiskliftError(
      'FormatUnsupported',
      `${name}: its descriptor ends with its extents, so more may have been cut off; where these are all, add the line # End`,
    );
}

/**
 * Checks a sparse VMDK, or a sparse extent of one.
 * @throws DiskliftError `SourceReadError`, also for a truncated file; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
async function checkSparse(opened: OpenedFile, file: FileToCheck): Promise<void> {
  const header = await readFinalHeader(opened, file);
  const grains = parseVmdkGrains(header, file.name);
  const offsets = await readDirectory(grains, file);
  await checkGrainTables(grains, offsets, file);
  const offset = grains.lastMarkerOffset();
  if (offset === 0) return;
  const end = endOfMarkedGrain(await readUpTo(opened, offset, GRAIN_MARKER_BYTES), offset, file.name);
  if (end > file.fileSizeBytes)
    throw truncatedError(file.name, `its last grain at byte ${offset} goes on to byte ${end}`, file.fileSizeBytes);
}

/** @returns the header that locates the grains: the first sector, or the one in the file's footer */
async function readFinalHeader(opened: OpenedFile, { name, fileSizeBytes }: FileToCheck): Promise<Uint8Array> {
  const head = await readUpTo(opened, 0, SPARSE_HEADER_BYTES);
  if (!isFooterUsed(head, name)) return head;
  const footer = await readUpTo(opened, Math.max(0, placeOfVmdkFooter(fileSizeBytes)), VMDK_FOOTER_BYTES);
  const header = footer.subarray(VMDK_FOOTER_HEADER_AT, VMDK_FOOTER_HEADER_AT + SPARSE_HEADER_BYTES);
  const size = parseVmdkSparseHeader(header, name)?.sizeBytes;
  if (size === undefined || isFooterUsed(header, name))
    throw truncatedError(name, 'it has no footer, which locates its grains', fileSizeBytes);
  if (size !== parseVmdkSparseHeader(head, name)?.sizeBytes)
    throw new DiskliftError('FormatUnsupported', `${name}: its VMDK header and its footer contradict each other`);
  return header;
}

/** @returns the offsets of the grain tables; 0 for an absent table */
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
  const read: ReadBytes = (...range) => readExactly(file.target, ...range);
  for await (const batch of readTables(read, tables))
    for (const { index, offset, bytes } of batch) checkEntries(bytes, 0, grains.table(index, offset), file);
}
