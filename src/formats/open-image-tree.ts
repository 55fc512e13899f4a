/**
 * Opens an image with all files that it refers to, beneath the volume and nowhere else. Readers of the image get
 * descriptors and open no name that the image's author has chosen.
 */

import type { BigIntStats } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import { mapConcurrently } from '../common/limiter.ts';
import type { Libc } from '../native/libc.ts';
import { MAX_CHAIN_LENGTH } from '../qcow2/constants.ts';
import { createVolumeDirectory, openBeneath, statBeneath, type VolumeDirectory } from '../sources/open-beneath.ts';
import { closeHandle, fileKey, statOpened } from '../sources/opened-file.ts';
import { type ChosenFormat, chooseFormat } from './choose-format.ts';
import { type DiskFormat, isDiskFormat, readerOf } from './formats.ts';
import type { ImageFile, ImageTree, VmdkExtent } from './image-file.ts';
import {
  type DescribedExtent,
  isSizeOf,
  type ReferenceKind,
  type References,
  type ReferenceToRepair,
  resolveName,
  showName,
} from './image-references.ts';

export interface ImageRoot extends ChosenFormat {
  libc: Libc | undefined;
  /** The image. The tree owns the handle from now on; a failure closes it. */
  handle: FileHandle;
  /** A directory; the image's own where the image lies on no volume. */
  volumePath: string;
  /** The image's path beneath it. */
  relativePath: string;
  /**
   * Opens the file that has the image's name now, where that name may be a link. When left out, the path beneath the
   * volume is opened.
   */
  reopen?(): Promise<FileHandle>;
  /** Awaited for each opened file, before any read that finds names of other files. */
  onOpen?(file: ImageFile): Promise<void>;
  /** Receives one-line warnings; a warning does not stop the export. */
  warn?(message: string): void;
  /** More advice for a name that leads out of the volume. */
  adviceOutside?: string;
}

/** Number of extents that are opened at the same time. */
const OPENS_IN_FLIGHT = 8;
/** Each file takes a file descriptor while the disk is open. */
const MAX_FILE_COUNT = 600;

/** The volume's path as given, and with its links resolved. */
async function namesOf(volumePath: string): Promise<string[]> {
  const named = path.resolve(volumePath);
  return [named, await fs.realpath(named).catch(() => named)];
}

interface Tree {
  libc: Libc | undefined;
  volume: VolumeDirectory;
  files: ImageFile[];
  handles: FileHandle[];
  /** By device and inode. */
  known: Map<string, { file: ImageFile; looked: Promise<void> }>;
  onOpen: ImageRoot['onOpen'];
  warn: ImageRoot['warn'];
  adviceOutside: ImageRoot['adviceOutside'];
}

/** An image, and the chain of images that refer to it. */
interface Place {
  file: ImageFile;
  format: DiskFormat;
  relativePath: string;
  isGuess: boolean;
  /** Device and inode of each image of the chain, the root first, this image last. */
  chain: readonly string[];
}

interface Reference {
  what: ReferenceKind;
  name: string;
  /** The format that the image states; chosen by name and bytes when left out. */
  format?: DiskFormat;
}

/**
 * @throws DiskliftError `InvalidRequest` for a reference that leaves the volume or leads to no regular file.
 * `FormatUnsupported` for an image that cannot be read, and for a chain that is a circle or longer than 64 files.
 * `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
 */
export async function openImageTree(root: ImageRoot): Promise<ImageTree> {
  const { libc, volumePath, handle, onOpen, warn, adviceOutside } = root;
  const volume = createVolumeDirectory(volumePath);
  const tree: Tree = { libc, volume, files: [], handles: [handle], known: new Map(), onOpen, warn, adviceOutside };
  const close = async () => {
    await Promise.all(tree.handles.splice(0).map(closeHandle));
  };
  try {
    const opened = await statOpened({ handle, name: path.join(volumePath, root.relativePath) });
    const place = await enter(tree, { ...root, opened, chain: [] });
    await followReferences(tree, place);
    return { root: place.file, files: tree.files, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Entering extends ChosenFormat {
  handle: FileHandle;
  opened: BigIntStats;
  relativePath: string;
  chain: readonly string[];
  reopen?(): Promise<FileHandle>;
}

async function enter(tree: Tree, { handle, opened, relativePath, format, isGuess, chain, reopen }: Entering): Promise<Place> {
  const key = fileKey(opened);
  const { libc, volume } = tree;
  const place = { volume, relativePath };
  const file: ImageFile = {
    handle,
    opened,
    name: path.join(volume.path, relativePath),
    libc,
    format,
    reopen: reopen ?? (() => openBeneath(libc, place)),
    ...(reopen === undefined ? { statByName: () => statBeneath(libc, place) } : {}),
  };
  tree.files.push(file);
  const looked = tree.onOpen?.(file) ?? Promise.resolve();
  tree.known.set(key, { file, looked });
  await looked;
  return { file, format, relativePath, isGuess, chain: [...chain, key] };
}

/** @returns the references of the image itself */
async function followReferences(tree: Tree, place: Place): Promise<References> {
  const { file } = place;
  const references = await (await readerOf(file.format)).readReferences(file);
  const { backing, dataFile, extents, diskSizeBytes, vpc, warning } = references;
  if (diskSizeBytes !== undefined) file.diskSizeBytes = diskSizeBytes;
  if (vpc !== undefined) file.vpc = vpc;
  if (warning !== undefined) tree.warn?.(`${file.name}: ${warning}`);
  if (place.isGuess && (backing ?? dataFile ?? extents) !== undefined)
    throw new DiskliftError(
      'FormatUnsupported',
      `${file.name}: looks like a ${file.format} image that refers to other files, which the guest of a raw disk may have written; state its format`,
    );
  if (backing !== undefined) file.backing = await openBacking(tree, place, references);
  if (dataFile !== undefined) file.dataFile = (await open(tree, place, { what: 'data file', name: dataFile.name, format: 'raw' })).file;
  if (extents !== undefined) {
    file.extents = await openExtents(tree, place, extents);
    file.diskSizeBytes = file.extents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }
  return references;
}

async function openBacking(tree: Tree, place: Place, { backing, parentContentId }: References): Promise<ImageFile> {
  const { name: image } = place.file;
  const { name = '', format } = backing ?? {};
  if (format !== undefined && !isDiskFormat(format))
    throw new DiskliftError('FormatUnsupported', `${image}: the format of its backing file, ${showName(format)}, is not known`);
  const parent = await open(tree, place, { what: 'backing file', name, ...(format === undefined ? {} : { format }) });
  const { contentId } = await followReferences(tree, parent);
  if (parentContentId === undefined) return parent.file;
  // QEMU accepts only a VMDK in one file behind a VMDK.
  if (parent.file.extents !== undefined)
    throw new DiskliftError('FormatUnsupported', `${image}: its parent is a VMDK in several files, which cannot be read`);
  if (contentId !== parentContentId)
    throw new DiskliftError('FormatUnsupported', `${image}: its parent ${parent.file.name} has been written to since, or is another disk`);
  return parent.file;
}

/** Opens several extents at a time; the tree keeps the order of the descriptor. */
async function openExtents(tree: Tree, place: Place, extents: readonly DescribedExtent[]): Promise<VmdkExtent[]> {
  const countBefore = tree.files.length;
  const opened = await mapConcurrently(extents, OPENS_IN_FLIGHT, (extent, index) =>
    openExtent(tree, place, { extent, isLast: index === extents.length - 1 }),
  );
  const files = new Set(opened.flatMap((extent) => (extent.kind === 'zero' ? [] : [extent.file])));
  const isNew = new Set(tree.files.splice(countBefore));
  tree.files.push(...[...files].filter((file) => isNew.has(file)));
  return opened;
}

interface ExtentToOpen {
  extent: DescribedExtent;
  /** True for the last extent: its size shifts no other extent. */
  isLast: boolean;
}

async function openExtent(tree: Tree, place: Place, { extent, isLast }: ExtentToOpen): Promise<VmdkExtent> {
  if (extent.kind === 'zero') return extent;
  const { kind, name, offsetBytes, sizeBytes } = extent;
  const { file } = await open(tree, place, { what: 'extent', name, format: kind === 'flat' ? 'raw' : place.format });
  const differs = (ownBytes: number) =>
    new DiskliftError(
      'FormatUnsupported',
      `${place.file.name}: its extent ${file.name} is not as long as it says; it is incomplete or another one, with ${ownBytes} bytes in place of ${offsetBytes + sizeBytes}; copy it again`,
    );
  if (kind === 'flat') {
    const ownBytes = Number(file.opened.size);
    if (ownBytes < offsetBytes + sizeBytes) throw differs(ownBytes);
    return { kind, file, offsetBytes, sizeBytes };
  }
  const { readExtentSize } = await readerOf(file.format);
  if (readExtentSize === undefined) throw new Error(`${file.format} has no sparse extents`);
  const stated = await readExtentSize(file);
  if (stated.sizeBytes !== sizeBytes && !(isLast && isSizeOf(stated, sizeBytes))) throw differs(stated.sizeBytes);
  return { kind, file, sizeBytes: stated.sizeBytes };
}

/**
 * Opens a file that an image names. A file that is open already is not kept twice, and must not lead back to itself.
 */
async function open(tree: Tree, from: Place, { what, name, format }: Reference): Promise<Place> {
  const image = from.file.name;
  const volumeNames = path.isAbsolute(name) ? await namesOf(tree.volume.path) : [];
  const repair = [await repairOf(from, { image, what, newName: path.basename(name), namedFormat: format }), tree.adviceOutside]
    .filter((advice) => advice !== undefined)
    .join(', or ');
  const relativePath = resolveName({ name, from: from.relativePath, image, what, volumeNames, repair });
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${image}: its ${what} ${showName(name)} ${why}`);
  if (from.chain.length >= MAX_CHAIN_LENGTH)
    throw refuse(`would be file ${MAX_CHAIN_LENGTH + 1} of a chain; commit or rebase some of them`);
  if (tree.handles.length >= MAX_FILE_COUNT) throw refuse(`would be file ${MAX_FILE_COUNT + 1} of the image`);
  const handle = await openNamed(tree, relativePath, `${image}: its ${what} ${showName(name)}`);
  tree.handles.push(handle);
  const opened = await statOpened({ handle, name: path.join(tree.volume.path, relativePath) });
  const key = fileKey(opened);
  if (from.chain.includes(key)) throw refuse('leads back to itself');
  const known = tree.known.get(key);
  if (known === undefined) {
    const chosen = format === undefined ? await chooseUnstated(tree, from, { handle, relativePath, name }) : { format, isGuess: false };
    return enter(tree, { handle, opened, relativePath, ...chosen, chain: from.chain });
  }
  if (what !== 'extent' || known.file.format !== format) throw refuse('is a part of the image twice');
  tree.handles.splice(tree.handles.indexOf(handle), 1);
  await closeHandle(handle);
  await known.looked;
  return { file: known.file, format, relativePath, isGuess: false, chain: [...from.chain, key] };
}

interface Unstated {
  handle: FileHandle;
  relativePath: string;
  /** The name as the image stores it. */
  name: string;
}

async function repairOf({ file }: Place, reference: ReferenceToRepair): Promise<string | undefined> {
  return (await readerOf(file.format)).repairReference?.(reference);
}

/** Chooses the format of a backing file where the image states none. */
async function chooseUnstated({ volume }: Tree, from: Place, { handle, relativePath, name }: Unstated): Promise<ChosenFormat> {
  try {
    return await chooseFormat({ handle, name: path.join(volume.path, relativePath) });
  } catch (error) {
    const image = from.file.name;
    const repair = await repairOf(from, { image, what: 'backing file', newName: name });
    throw error instanceof DiskliftError && error.code === 'FormatUnsupported'
      ? new DiskliftError(error.code, `${image}: does not state the format of its backing file; ${repair} (${error.message})`, error)
      : error;
  }
}

async function openNamed({ libc, volume }: Tree, relativePath: string, what: string): Promise<FileHandle> {
  try {
    return await openBeneath(libc, { volume, relativePath });
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    const { code, message, retryable } = error;
    throw new DiskliftError(code, `${what}: ${message}`, error, { retryable });
  }
}
