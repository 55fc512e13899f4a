/** Reads qcow2 images: their references, the files in which a plain disk lies, and whether they are truncated. */

import zlib from 'node:zlib';
import { DiskliftError } from '../../common/errors.ts';
import { type ForeignImage, guestSizeBytes } from '../../qcow2/read/foreign-image.ts';
import { createOverlayBuilder } from '../../qcow2/read/guest-mapping.ts';
import { createMetadataPlaces, parseL1Table, placeOfL1Table } from '../../qcow2/read/l1-table.ts';
import { parseHeader, type Qcow2Header, qcow2ClusterSize } from '../../qcow2/read/parse-header.ts';
import { createTruncationCheck } from '../../qcow2/read/truncation-check.ts';
import { fileSize, type OpenedFile, type ReadTarget, readExactly, readUpTo, regularFileSize } from '../../sources/opened-file.ts';
import type { FormatReader, LayerBelow, LayerMapping, PlainLayer, ReadOptions } from '../format.ts';
import type { ImageFile } from '../image-file.ts';
import type { References, ReferenceToRepair } from '../image-references.ts';
import { readTables } from '../read-tables.ts';
import { type FileToCheck, truncatedError } from '../truncation-check.ts';
import { EXPLICIT_ZEROS_NOTICE } from './unnamed-delta.ts';

export const QCOW2_READER: FormatReader = {
  readReferences: async (file) => referencesIn(await readHeader(file), file.name),
  checkTruncation,
  findPlainLayer,
  repairReference,
  readExtentSize: undefined,
};

/** These bytes of the file state the length of its first cluster. */
const HEADER_START_BYTES = 24;

async function readHeader(file: OpenedFile): Promise<Qcow2Header> {
  const clusterSizeBytes = qcow2ClusterSize(await readUpTo(file, 0, HEADER_START_BYTES), file.name);
  return parseHeader(await readUpTo(file, 0, clusterSizeBytes), file.name);
}

/** @param bytes the image's first cluster @throws DiskliftError `FormatUnsupported` for an image that cannot be read */
export function parseQcow2References(bytes: Uint8Array, name: string): References {
  return referencesIn(parseHeader(bytes, name), name);
}

function referencesIn(header: Qcow2Header, name: string): References {
  const { backingFile, dataFile, encryption, isCorrupt } = header;
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  if (encryption !== 'none') throw refuse('is encrypted');
  if (isCorrupt) throw refuse('is marked as corrupt; qemu-img check -r all may repair it');
  if (dataFile !== undefined && dataFile.name === undefined) throw refuse('has its data in another file and does not name it');
  return {
    diskSizeBytes: guestSizeBytes(header),
    ...(backingFile === undefined ? {} : { backing: backingFile }),
    ...(dataFile?.name === undefined ? {} : { dataFile: { name: dataFile.name } }),
  };
}

/** @returns a command for a shell */
function repairReference({ image, what, newName, namedFormat }: ReferenceToRepair): string {
  if (what === 'backing file') return `run qemu-img rebase -u -F ${namedFormat ?? 'FORMAT'} -b ${quoted(newName)} ${quoted(image)}`;
  return `run qemu-img amend -f qcow2 -o data_file=${quoted(newName.replaceAll(',', ',,'))} ${quoted(image)} in its directory`;
}

function quoted(text: string): string {
  return /^[\w./@%+=:,-]+$/.test(text) && !text.startsWith('-') ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

async function findPlainLayer(file: ImageFile): Promise<PlainLayer | undefined> {
  const header = await readHeader(file);
  const [fileSizeBytes, dataFileSizeBytes] = [
    await regularFileSize(file),
    file.dataFile === undefined ? undefined : await regularFileSize(file.dataFile),
  ];
  // The files were opened by the names that an earlier read of the header gave.
  const isAsOpened =
    (header.backingFile === undefined) === (file.backing === undefined) &&
    (header.dataFile === undefined) === (file.dataFile === undefined);
  if (!isPlain(header) || !isAsOpened || fileSizeBytes === undefined) return undefined;
  if (file.dataFile !== undefined && (dataFileSizeBytes === undefined || file.dataFile.format !== 'raw')) return undefined;
  const image = { name: file.name, header, fileSizeBytes, dataFileSizeBytes };
  return { files: [file.dataFile ?? file], readMapping: (below, options) => readMapping({ file, image }, below, options) };
}

/** A dirty image may have incomplete tables, which QEMU repairs. Compressed clusters show only in the tables. */
function isPlain({ encryption, hasExtendedL2, isCorrupt, isDirty }: Qcow2Header): boolean {
  return encryption === 'none' && !hasExtendedL2 && !isCorrupt && !isDirty;
}

async function readMapping(
  { file, image }: { file: ImageFile; image: ForeignImage },
  { firstFile, backing }: LayerBelow,
  { readLimit, signal }: ReadOptions,
): Promise<LayerMapping | undefined> {
  const target = { fd: file.handle.fd, name: file.name, readLimit };
  const l2Offsets = await readL1Table(target, image, signal);
  const builder = createOverlayBuilder({ image, metadata: createMetadataPlaces(image, l2Offsets), dataFile: firstFile, backing });
  for await (const tables of readTables((...range) => readExactly(target, ...range), {
    offsets: l2Offsets,
    tableSizeBytes: image.header.clusterSizeBytes,
    signal,
  }))
    for (const { bytes, ...place } of tables) if (!builder.addTable(bytes, place)) return undefined;
  return { mapping: builder.build(), ...noticeOf(image, builder.hasExplicitZeros) };
}

/** An image with a raw data file cannot have a backing file, so it is no delta. */
function noticeOf({ header }: ForeignImage, hasExplicitZeros: boolean): { notice?: string } {
  return hasExplicitZeros && header.dataFile?.isRaw !== true ? { notice: EXPLICIT_ZEROS_NOTICE } : {};
}

/** @returns the offsets of the L2 tables, as {@link parseL1Table} */
async function readL1Table(target: ReadTarget, image: ForeignImage, signal: AbortSignal): Promise<Float64Array> {
  const { offset, length } = placeOfL1Table(image);
  const bytes = Buffer.allocUnsafeSlow(length);
  await readExactly(target, bytes, offset, signal);
  return parseL1Table(bytes, image);
}

/** Checks that the image has all its clusters, also compressed ones and subclusters. */
async function checkTruncation(opened: ImageFile, file: FileToCheck): Promise<string | undefined> {
  const { target, signal, name, fileSizeBytes } = file;
  const { dataFile } = opened;
  const dataFileSizeBytes = dataFile === undefined ? undefined : await fileSize(dataFile, dataFile.libc);
  const image: ForeignImage = { name, header: await readHeader(opened), fileSizeBytes, dataFileSizeBytes };
  const offsets = await readL1Table(target, image, signal);
  // Refuses tables that stand for two parts of the disk, so that their number is bounded by the file's size.
  createMetadataPlaces(image, offsets);
  const check = createTruncationCheck(image);
  for await (const tables of readTables((...range) => readExactly(target, ...range), {
    offsets,
    tableSizeBytes: image.header.clusterSizeBytes,
    signal,
  }))
    for (const { bytes, ...place } of tables) check.addTable(bytes, place);
  for (const offset of check.tails) {
    const bytes = Buffer.alloc(fileSizeBytes - offset);
    await readExactly(target, bytes, offset, signal);
    if (!(await holdsCluster(bytes, image.header)))
      throw truncatedError(name, `its compressed cluster at byte ${offset} goes on`, fileSizeBytes);
  }
  return noticeOf(image, check.hasExplicitZeros).notice;
}

/**
 * Decompresses a cluster to see whether it is whole. QEMU reads zeros for the missing part of a file's last sector, and
 * a deflate stream has no checksum that would show it.
 * @param bytes of a compressed cluster to the file's end
 */
function holdsCluster(bytes: Uint8Array, { compression, clusterSizeBytes }: Qcow2Header): Promise<boolean> {
  const decompressor =
    compression === 'zstd' ? zlib.createZstdDecompress() : zlib.createInflateRaw({ finishFlush: zlib.constants.Z_SYNC_FLUSH });
  let sizeBytes = 0;
  return new Promise((resolve) => {
    const settle = () => {
      decompressor.destroy();
      resolve(sizeBytes >= clusterSizeBytes);
    };
    decompressor.on('data', (chunk: Uint8Array) => {
      sizeBytes += chunk.length;
      if (sizeBytes >= clusterSizeBytes) settle();
    });
    decompressor.on('end', settle);
    decompressor.on('error', settle);
    decompressor.end(bytes);
  });
}
