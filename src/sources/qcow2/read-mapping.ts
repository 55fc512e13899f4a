/** Reading where a disk lies in the files of its image: the tables of qcow2 and VHD, one image after the other, and never a whole image's at once. */

import type { Semaphore } from '../../common/semaphore.ts';
import type { GuestMapping } from '../../qcow2/guest-mapping.ts';
import { createMetadataPlaces } from '../../qcow2/metadata-places.ts';
import { createOverlayBuilder, rawMapping } from '../../qcow2/overlay-mapping.ts';
import type { ImageFile } from '../image-tree.ts';
import { readVpcMapping } from '../vpc/read-vpc-mapping.ts';
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
  for (const link of chain.toReversed()) {
    const number = files.push(link.kind === 'qcow2' ? link.dataFile : link.file) - 1;
    mapping = await readLink(link, { number, backing: mapping }, options);
    if (mapping === undefined) return undefined;
  }
  return mapping === undefined ? undefined : { mapping, files };
}

async function readLink(link: ChainLink, behind: Behind, options: ReadOptions): Promise<GuestMapping | undefined> {
  if (link.kind === 'qcow2') return readLayer(link, behind, options);
  if (link.kind === 'raw') return rawMapping(behind.number, link.sizeBytes);
  const { file, fileSizeBytes } = link;
  const target = { fd: file.handle.fd, name: file.name, readLimit: options.readLimit };
  return readVpcMapping(file, { name: file.name, target, signal: options.signal, fileSizeBytes }, behind.number);
}

type Qcow2Link = Extract<ChainLink, { kind: 'qcow2' }>;

interface Behind {
  /** Of the file that the image's data is in. */
  number: number;
  backing: GuestMapping | undefined;
}

async function readLayer(
  { file, image }: Qcow2Link,
  { number, backing }: Behind,
  { readLimit, signal }: ReadOptions,
): Promise<GuestMapping | undefined> {
  const target = { fd: file.handle.fd, name: file.name, readLimit };
  const l2Offsets = await readL1Table(target, image, signal);
  const builder = createOverlayBuilder({ image, metadata: createMetadataPlaces(image, l2Offsets), dataFile: number, backing });
  for await (const tables of readTables(target, { offsets: l2Offsets, tableSizeBytes: image.header.clusterSizeBytes, signal }))
    for (const { bytes, ...place } of tables) if (!builder.addTable(bytes, place)) return undefined;
  return builder.build();
}
