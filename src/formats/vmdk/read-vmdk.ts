/** Reads the files that a VMDK refers to. */

import path from 'node:path';
import { DiskliftError } from '../../common/errors.ts';
import { type OpenedFile, readUpTo } from '../../sources/opened-file.ts';
import type { References } from '../image-references.ts';
import { MAX_DESCRIPTOR_BYTES, parseVmdkDescriptor, type VmdkDescriptor } from './vmdk-descriptor.ts';
import { parseVmdkExtents, requireOwnExtent } from './vmdk-extents.ts';
import { vmdkPartOf } from './vmdk-part-name.ts';
import { parseVmdkSparseHeader, SPARSE_HEADER_BYTES, type VmdkSparseHeader } from './vmdk-sparse-header.ts';

/** Magic of a tar archive (POSIX, "ustar Interchange Format"). */
const TAR_MAGIC = 'ustar';
const TAR_MAGIC_AT = 257;

/** @throws DiskliftError `FormatUnsupported` for a file that is no VMDK or an unsupported one, `SourceReadError` */
export async function readVmdk(file: OpenedFile): Promise<References> {
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

/** Reads a file that a descriptor names. @returns its header, which states its part of the disk @throws as {@link readVmdk} */
export async function readSparseExtentHeader(file: OpenedFile): Promise<VmdkSparseHeader> {
  const header = parseVmdkSparseHeader(await readUpTo(file, 0, SPARSE_HEADER_BYTES), file.name);
  if (header === undefined) throw refusal(file.name, 'not a sparse extent of a VMDK');
  const descriptor = await embeddedDescriptor(file, header);
  if (descriptor?.parent !== undefined) throw refusal(file.name, 'a part of a VMDK that has a parent of its own');
  return header;
}

function refusal(name: string, why: string): DiskliftError {
  return new DiskliftError('FormatUnsupported', `${name}: ${why}`);
}
