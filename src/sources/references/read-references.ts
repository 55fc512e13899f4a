/** Reads as much of a file as its format's parser asks for. */

import { alignUp } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { qcow2ClusterSize } from '../../qcow2/parse-header.ts';
import type { DiskFormat } from '../image-tree.ts';
import { type OpenedFile, readUpTo } from '../read-up-to.ts';
import type { References } from './contract.ts';
import { parseQcow2References } from './qcow2-references.ts';
import { readVmdk } from './read-vmdk.ts';
import { requireStandaloneVdi, VDI_HEADER_BYTES } from './vdi-header.ts';
import {
  FILE_PARAMETERS_BYTES,
  parseVhdxMetadata,
  parseVhdxRegions,
  REGION_TABLE_OFFSET,
  requireNoVhdxParent,
  VHDX_TABLE_BYTES,
} from './vhdx-metadata.ts';
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
