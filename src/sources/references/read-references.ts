/** Reads as much of a file as its format's parser asks for. */

import { alignUp } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { qcow2ClusterSize } from '../../qcow2/parse-header.ts';
import type { DiskFormat } from '../image-tree.ts';
import { type OpenedFile, readUpTo } from '../read-up-to.ts';
import type { References } from './contract.ts';
import { parseQcow2References } from './qcow2-references.ts';
import { requireStandaloneVdi, VDI_HEADER_BYTES } from './vdi-header.ts';
import {
  FILE_PARAMETERS_BYTES,
  parseVhdxMetadata,
  parseVhdxRegions,
  REGION_TABLE_OFFSET,
  requireNoVhdxParent,
  VHDX_TABLE_BYTES,
} from './vhdx-metadata.ts';
import { MAX_DESCRIPTOR_BYTES, parseVmdkDescriptor } from './vmdk-descriptor.ts';
import { parseVmdkSparseHeader, SPARSE_HEADER_BYTES } from './vmdk-sparse-header.ts';
import { requireStandaloneVpc, VPC_FOOTER_BYTES } from './vpc-footer.ts';

/** The beginning of a qcow2 image that tells how long its first cluster is. */
const CLUSTER_SIZE_BYTES_AT = 24;

const READERS: Readonly<Record<DiskFormat, (file: OpenedFile) => Promise<References>>> = {
  raw: async () => ({}),
  qcow2: readQcow2,
  vmdk: readVmdk,
  vhdx: readVhdx,
  vdi: readVdi,
  vpc: readVpc,
};

/** @throws DiskliftError `FormatUnsupported` for what is not of the format or cannot be read, `SourceReadError` */
export function readReferences(file: OpenedFile, format: DiskFormat): Promise<References> {
  return READERS[format](file);
}

async function readQcow2(file: OpenedFile): Promise<References> {
  const clusterSizeBytes = qcow2ClusterSize(await readUpTo(file, 0, CLUSTER_SIZE_BYTES_AT), file.name);
  return parseQcow2References(await readUpTo(file, 0, clusterSizeBytes), file.name);
}

async function readVmdk(file: OpenedFile): Promise<References> {
  const { name } = file;
  const header = parseVmdkSparseHeader(await readUpTo(file, 0, SPARSE_HEADER_BYTES), name);
  if (header === undefined) {
    const { extents, contentId, parent } = parseVmdkDescriptor(await readUpTo(file, 0, MAX_DESCRIPTOR_BYTES + 1), name);
    // One would have to lie behind each extent, which QEMU does not do.
    if (parent !== undefined)
      throw new DiskliftError('FormatUnsupported', `${name}: is a VMDK snapshot in several files, which cannot be read`);
    return { extents, contentId };
  }
  const descriptor = await embeddedDescriptor(file, header.descriptor);
  if (descriptor === undefined)
    throw new DiskliftError('FormatUnsupported', `${name}: is a part of a VMDK, not a disk; name the file that describes the whole`);
  const { contentId, parent, extents } = descriptor;
  // Its name is often an old one, and whose it is goes without saying.
  const [extent] = extents;
  if (extents.length !== 1 || extent?.kind !== 'sparse' || extent.sizeBytes !== header.sizeBytes)
    throw new DiskliftError('FormatUnsupported', `${name}: its VMDK header and its descriptor contradict each other`);
  if (parent === undefined) return { contentId };
  return { contentId, backing: { name: parent.name, format: 'vmdk' }, parentContentId: parent.contentId };
}

async function embeddedDescriptor(file: OpenedFile, place: { offset: number; length: number } | undefined) {
  if (place === undefined) return undefined;
  const bytes = await readUpTo(file, place.offset, place.length);
  return bytes.length === 0 || bytes[0] === 0 ? undefined : parseVmdkDescriptor(bytes, file.name);
}

/** For a file that a descriptor names. @returns its size as a part of the disk, in bytes. @throws as {@link readReferences} */
export async function readSparseExtentSize(file: OpenedFile): Promise<number> {
  const header = parseVmdkSparseHeader(await readUpTo(file, 0, SPARSE_HEADER_BYTES), file.name);
  if (header === undefined) throw new DiskliftError('FormatUnsupported', `${file.name}: not a sparse extent of a VMDK`);
  const descriptor = await embeddedDescriptor(file, header.descriptor);
  if (descriptor?.parent !== undefined)
    throw new DiskliftError('FormatUnsupported', `${file.name}: a part of a VMDK that has a parent of its own`);
  return header.sizeBytes;
}

async function readVhdx(file: OpenedFile): Promise<References> {
  const { name } = file;
  const metadata = parseVhdxRegions(await readUpTo(file, REGION_TABLE_OFFSET, VHDX_TABLE_BYTES), name);
  const parameters = parseVhdxMetadata(await readUpTo(file, metadata, VHDX_TABLE_BYTES), name);
  requireNoVhdxParent(await readUpTo(file, metadata + parameters, FILE_PARAMETERS_BYTES), name);
  return {};
}

async function readVdi(file: OpenedFile): Promise<References> {
  requireStandaloneVdi(await readUpTo(file, 0, VDI_HEADER_BYTES), file.name);
  return {};
}

async function readVpc(file: OpenedFile): Promise<References> {
  const { size } = await file.handle.stat();
  const footerAt = alignUp(size, VPC_FOOTER_BYTES) - VPC_FOOTER_BYTES;
  if (footerAt <= 0) throw new DiskliftError('FormatUnsupported', `${file.name}: is too short for a VHD`);
  const [head, footer] = [await readUpTo(file, 0, VPC_FOOTER_BYTES), await readUpTo(file, footerAt, VPC_FOOTER_BYTES)];
  requireStandaloneVpc({ head, footer, name: file.name });
  return {};
}
