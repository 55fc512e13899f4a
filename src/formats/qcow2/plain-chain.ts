/** Whether a disk lies plain in the files of its image: all that has to be known of them is where. */

import type { ForeignImage } from '../../qcow2/read/foreign-image.ts';
import type { Qcow2Header } from '../../qcow2/read/parse-header.ts';
import { regularFileSize } from '../../sources/opened-file.ts';
import type { DiskFormat, ImageFile, PlainExtent } from '../image-tree.ts';
import type { VpcDisk } from '../vpc/vpc-footer.ts';
import { readHeader } from './read-header.ts';

/** One image of a chain. */
export type ChainLink =
  | { kind: 'raw'; file: ImageFile; sizeBytes: number }
  | { kind: 'vmdk'; file: ImageFile; extents: readonly PlainExtent[] }
  | { kind: 'vpc'; file: ImageFile & { vpc: VpcDisk }; fileSizeBytes: number }
  | { kind: 'qcow2'; file: ImageFile; image: ForeignImage; dataFile: ImageFile };

/**
 * @returns the images that form the disk, from `root` to its last backing file. Undefined unless each is a regular file and is raw, a
 * VHD, a VMDK of flat extents or a plain qcow2 image
 * @throws DiskliftError `FormatUnsupported`, `SourceReadError`
 */
export async function findPlainChain(root: ImageFile): Promise<ChainLink[] | undefined> {
  const chain: ChainLink[] = [];
  for (let file: ImageFile | undefined = root; file !== undefined; file = file.backing) {
    const link: ChainLink | undefined = await LINKS[file.format]?.(file);
    if (link === undefined) return undefined;
    chain.push(link);
  }
  return chain;
}

const LINKS: Readonly<Partial<Record<DiskFormat, (file: ImageFile) => Promise<ChainLink | undefined>>>> = {
  raw: rawLink,
  vmdk: vmdkLink,
  vpc: vpcLink,
  qcow2: qcow2Link,
};

/** The extents are regular files, because no other kind is opened beneath a volume. */
async function vmdkLink(file: ImageFile): Promise<ChainLink | undefined> {
  const { extents } = file;
  return extents?.every((extent) => extent.kind !== 'sparse') ? { kind: 'vmdk', file, extents } : undefined;
}

async function vpcLink(file: ImageFile): Promise<ChainLink | undefined> {
  const fileSizeBytes = await regularFileSize(file);
  const { vpc } = file;
  return fileSizeBytes === undefined || vpc === undefined ? undefined : { kind: 'vpc', file: { ...file, vpc }, fileSizeBytes };
}

async function rawLink(file: ImageFile): Promise<ChainLink | undefined> {
  const sizeBytes = await regularFileSize(file);
  return sizeBytes === undefined ? undefined : { kind: 'raw', file, sizeBytes };
}

async function qcow2Link(file: ImageFile): Promise<ChainLink | undefined> {
  const header = await readHeader(file);
  const [fileSizeBytes, dataFileSizeBytes] = [
    await regularFileSize(file),
    file.dataFile === undefined ? undefined : await regularFileSize(file.dataFile),
  ];
  // What a header names has been opened by what it said before.
  const isAsOpened =
    (header.backingFile === undefined) === (file.backing === undefined) &&
    (header.dataFile === undefined) === (file.dataFile === undefined);
  if (!isPlain(header) || !isAsOpened || fileSizeBytes === undefined) return undefined;
  if (file.dataFile !== undefined && (dataFileSizeBytes === undefined || file.dataFile.format !== 'raw')) return undefined;
  return { kind: 'qcow2', file, image: { name: file.name, header, fileSizeBytes, dataFileSizeBytes }, dataFile: file.dataFile ?? file };
}

/** A dirty image may have tables that were not written to their end; QEMU knows best. Compressed clusters show in the tables only. */
function isPlain({ encryption, hasExtendedL2, isCorrupt, isDirty }: Qcow2Header): boolean {
  return encryption === 'none' && !hasExtendedL2 && !isCorrupt && !isDirty;
}
