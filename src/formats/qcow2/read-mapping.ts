/** Reads the mapping of a disk to its files: tables of qcow2 and VHD, extents of a VMDK. Reads one image at a time, never whole tables. */

import type { Semaphore } from '../../common/semaphore.ts';
import { createGuestMappingBuilder, type GuestMapping } from '../../qcow2/read/guest-mapping.ts';
import { createMetadataPlaces } from '../../qcow2/read/metadata-places.ts';
import { createOverlayBuilder, rawMapping } from '../../qcow2/read/overlay-mapping.ts';
import type { ImageFile } from '../image-tree.ts';
import { checkVmdkDescriptor } from '../vmdk/check-vmdk.ts';
import { readVpcMapping } from '../vpc/read-vpc-mapping.ts';
import { EXPLICIT_ZEROS_NOTICE } from './explicit-zeros-notice.ts';
import { type ChainLink, findPlainChain } from './plain-chain.ts';
import { readL1Table } from './read-l1-table.ts';
import { readTables } from './read-tables.ts';

export interface ReadOptions {
  readLimit: Semaphore;
  signal: AbortSignal;
}

export interface MappedFiles {
  mapping: GuestMapping;
  /** By the numbers that the mapping has for them. */
  files: readonly ImageFile[];
  notice?: string;
}

/**
 * @returns undefined where the disk does not lie plain in its files
 * @throws DiskliftError `SourceReadError` for tables that are wrong, too; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function readMapping(root: ImageFile, options: ReadOptions): Promise<MappedFiles | undefined> {
  const chain = await findPlainChain(root);
  if (chain === undefined) return undefined;
  const files: ImageFile[] = [];
  let mapping: GuestMapping | undefined;
  let hasExplicitZeros = false;
  for (const link of chain.toReversed()) {
    const number = files.length;
    files.push(...dataFilesOf(link));
    mapping = await readLink(link, { number, backing: mapping, onExplicitZeros: () => (hasExplicitZeros = true) }, options);
    if (mapping === undefined) return undefined;
  }
  if (mapping === undefined) return undefined;
  return { mapping, files, ...(chain.length === 1 && hasExplicitZeros ? { notice: EXPLICIT_ZEROS_NOTICE } : {}) };
}

/** The files that hold the image's own data. */
function dataFilesOf(link: ChainLink): ImageFile[] {
  if (link.kind === 'vmdk') return [...new Set(link.extents.flatMap((extent) => (extent.kind === 'flat' ? [extent.file] : [])))];
  return [link.kind === 'qcow2' ? link.dataFile : link.file];
}

async function readLink(link: ChainLink, behind: Behind, options: ReadOptions): Promise<GuestMapping | undefined> {
  if (link.kind === 'qcow2') return readLayer(link, behind, options);
  if (link.kind === 'raw') return rawMapping(behind.number, link.sizeBytes);
  if (link.kind === 'vmdk') return readFlatVmdk(link, behind.number);
  const { file, fileSizeBytes } = link;
  const target = { fd: file.handle.fd, name: file.name, readLimit: options.readLimit };
  return readVpcMapping(file, { name: file.name, target, signal: options.signal, fileSizeBytes }, behind.number);
}

async function readFlatVmdk(link: Extract<ChainLink, { kind: 'vmdk' }>, firstNumber: number): Promise<GuestMapping> {
  await checkVmdkDescriptor(link.file);
  const files = dataFilesOf(link);
  const builder = createGuestMappingBuilder();
  for (const extent of link.extents) {
    const place = extent.kind === 'zero' ? undefined : { file: firstNumber + files.indexOf(extent.file), offset: extent.offsetBytes };
    builder.append(extent.sizeBytes, place);
  }
  return builder.build();
}

type Qcow2Link = Extract<ChainLink, { kind: 'qcow2' }>;

interface Behind {
  /** Number of the first file that holds the image's data. */
  number: number;
  backing: GuestMapping | undefined;
  onExplicitZeros(): void;
}

async function readLayer(
  { file, image }: Qcow2Link,
  { number, backing, onExplicitZeros }: Behind,
  { readLimit, signal }: ReadOptions,
): Promise<GuestMapping | undefined> {
  const target = { fd: file.handle.fd, name: file.name, readLimit };
  const l2Offsets = await readL1Table(target, image, signal);
  const builder = createOverlayBuilder({ image, metadata: createMetadataPlaces(image, l2Offsets), dataFile: number, backing });
  for await (const tables of readTables(target, { offsets: l2Offsets, tableSizeBytes: image.header.clusterSizeBytes, signal }))
    for (const { bytes, ...place } of tables) if (!builder.addTable(bytes, place)) return undefined;
  // An image with a raw data file cannot have a backing file, so it is no delta.
  if (builder.hasExplicitZeros && image.header.dataFile?.isRaw !== true) onExplicitZeros();
  return builder.build();
}
