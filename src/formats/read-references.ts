/** Reads as much of a file as its format's parser asks for. */

import { alignUp } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { qcow2ClusterSize } from '../qcow2/read/parse-header.ts';
import { type OpenedFile, readUpTo, statOpened } from '../sources/opened-file.ts';
import type { References } from './image-references.ts';
import type { DiskFormat } from './image-tree.ts';
import { parseQcow2References } from './qcow2/qcow2-references.ts';
import { parseVdiHeader, VDI_HEADER_BYTES } from './vdi/vdi-header.ts';
import {
  FILE_PARAMETERS_BYTES,
  parseVhdxDiskSize,
  parseVhdxMetadata,
  parseVhdxRegions,
  placesOfVhdxDiskItems,
  REGION_TABLE_OFFSET,
  requireNoVhdxParent,
  VHDX_TABLE_BYTES,
} from './vhdx/vhdx-metadata.ts';
import { readVmdk } from './vmdk/read-vmdk.ts';
import { parseVpc, VPC_FOOTER_BYTES } from './vpc/vpc-footer.ts';

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
  const table = await readUpTo(file, metadata, VHDX_TABLE_BYTES);
  const parameters = parseVhdxMetadata(table, name);
  requireNoVhdxParent(await readUpTo(file, metadata + parameters, FILE_PARAMETERS_BYTES), name);
  const places = placesOfVhdxDiskItems(table, name);
  const item = (offset: number) => readUpTo(file, metadata + offset, FILE_PARAMETERS_BYTES);
  const [diskSize, logicalSectorSize] = [await item(places.diskSize), await item(places.logicalSectorSize)];
  return { diskSizeBytes: parseVhdxDiskSize({ diskSize, logicalSectorSize, name }) };
}

async function readVdi(file: OpenedFile): Promise<References> {
  return parseVdiHeader(await readUpTo(file, 0, VDI_HEADER_BYTES), file.name);
}

async function readVpc(file: OpenedFile): Promise<References> {
  const size = Number((await statOpened(file)).size);
  const footerAt = alignUp(size, VPC_FOOTER_BYTES) - VPC_FOOTER_BYTES;
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
