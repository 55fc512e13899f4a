/**
 * Opens an image and its backing files by ranges, and reads their headers and L1 tables. The tables of clusters are
 * read when they are needed, so that memory does not grow with the disk.
 */

import { DiskliftError } from '../../common/errors.ts';
import { MAX_CHAIN_LENGTH } from '../../qcow2/constants.ts';
import { type ForeignImage, guestSizeBytes } from '../../qcow2/read/foreign-image.ts';
import { createMetadataPlaces, type MetadataPlaces, parseL1Table, placeOfL1Table } from '../../qcow2/read/l1-table.ts';
import { parseHeader, type Qcow2Header, qcow2ClusterSize } from '../../qcow2/read/parse-header.ts';
import type { ImageFolder, NamedImage, RangedFile } from '../../sources/remote/contract.ts';
import { resolveName, showName } from '../image-references.ts';

interface RawLayer {
  format: 'raw';
  file: RangedFile;
  sizeBytes: number;
}

export interface Qcow2Layer {
  format: 'qcow2';
  file: RangedFile;
  sizeBytes: number;
  image: ForeignImage;
  /** By L1 index; 0 for a table that does not exist. */
  l2Offsets: Float64Array;
  metadata: MetadataPlaces;
}

export type Layer = RawLayer | Qcow2Layer;

/**
 * @returns the layers, the named image first
 * @throws DiskliftError `FormatUnsupported`, `InvalidRequest`, `SourceReadError`
 */
export async function openChain({ folder, path }: NamedImage, format: 'raw' | 'qcow2', signal: AbortSignal): Promise<Layer[]> {
  const layers: Layer[] = [];
  const paths: string[] = [];
  for (let next: BackingPlace | undefined = { path, format }; next !== undefined; ) {
    if (paths.includes(next.path)) throw leadsBack(folder, paths, next.path);
    if (paths.length === MAX_CHAIN_LENGTH)
      throw new DiskliftError('FormatUnsupported', `${folder.nameOf(path)}: has more than ${MAX_CHAIN_LENGTH - 1} backing files`);
    paths.push(next.path);
    const file = await folder.open(next.path, signal);
    const layer: Layer = next.format === 'raw' ? rawLayer(file) : await openQcow2Layer(file, signal);
    layers.push(layer);
    next = layer.format === 'qcow2' ? backingPlace(layer.image.header, { folder, path: next.path }) : undefined;
  }
  return layers;
}

function leadsBack(folder: ImageFolder, paths: readonly string[], path: string): DiskliftError {
  const from = folder.nameOf(paths.at(-1) as string);
  return new DiskliftError('FormatUnsupported', `${from}: its backing file ${showName(path)} leads back to an image of the same chain`);
}

function rawLayer(file: RangedFile): RawLayer {
  return { format: 'raw', file, sizeBytes: file.sizeBytes };
}

const HEADER_START_BYTES = 24;

/** @throws DiskliftError `FormatUnsupported` */
export async function readQcow2Header(file: RangedFile, signal: AbortSignal): Promise<Qcow2Header> {
  const clusterSizeBytes = qcow2ClusterSize(await readStart(file, HEADER_START_BYTES, signal), file.name);
  return parseHeader(await readStart(file, clusterSizeBytes, signal), file.name);
}

async function readStart(file: RangedFile, length: number, signal: AbortSignal): Promise<Buffer> {
  const bytes = Buffer.alloc(Math.min(length, file.sizeBytes));
  await file.read(bytes, 0, signal);
  return bytes;
}

async function openQcow2Layer(file: RangedFile, signal: AbortSignal): Promise<Qcow2Layer> {
  const { name } = file;
  const header = await readQcow2Header(file, signal);
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  if (header.encryption !== 'none') throw refuse('is encrypted');
  if (header.isCorrupt) throw refuse('is marked as corrupt; qemu-img check -r all may repair a copy of it');
  if (header.dataFile !== undefined) throw refuse('has its data in another file, which is not read by ranges; download both');
  if (header.hasExtendedL2) throw refuse('has extended L2 entries, which are not read by ranges; download it');
  const image: ForeignImage = { name, header, fileSizeBytes: file.sizeBytes };
  const { offset, length } = placeOfL1Table(image);
  const bytes = Buffer.allocUnsafeSlow(length);
  await file.read(bytes, offset, signal);
  const l2Offsets = parseL1Table(bytes, image);
  return { format: 'qcow2', file, sizeBytes: guestSizeBytes(header), image, l2Offsets, metadata: createMetadataPlaces(image, l2Offsets) };
}

export interface BackingPlace {
  /** Beneath the folder. */
  path: string;
  format: 'raw' | 'qcow2';
}

/**
 * Where an image's backing file lies. A name leads to a file beneath the folder or is refused: never to another server,
 * another bucket, or above the prefix that the user has named.
 * @throws DiskliftError `InvalidRequest`, `FormatUnsupported`
 */
export function backingPlace({ backingFile }: Qcow2Header, { folder, path: from }: NamedImage): BackingPlace | undefined {
  if (backingFile === undefined) return undefined;
  const image = folder.nameOf(from);
  const { name, format } = backingFile;
  const path = resolveName({ name, from, image, what: 'backing file', repair: 'give --beneath a place above both' });
  if (format === 'raw' || format === 'qcow2') return { path, format };
  const why = format === undefined ? 'does not state the format of its backing file' : `its backing file is ${showName(format)}`;
  throw new DiskliftError('FormatUnsupported', `${image}: ${why}; backing files are read by ranges in the formats qcow2 and raw`);
}
