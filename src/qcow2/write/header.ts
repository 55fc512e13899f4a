/** The first cluster: header and header extensions (qcow2.rst, "Header" and "Header extensions"). */

import { alignUp } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import {
  AUTOCLEAR_RAW_EXTERNAL_DATA_BIT,
  HEADER_EXTENSION_BACKING_FORMAT,
  HEADER_EXTENSION_DATA_FILE_NAME,
  HEADER_EXTENSION_FEATURE_NAMES,
  INCOMPATIBLE_COMPRESSION_TYPE_BIT,
  INCOMPATIBLE_CORRUPT_BIT,
  INCOMPATIBLE_DIRTY_BIT,
  INCOMPATIBLE_EXTENDED_L2_BIT,
  INCOMPATIBLE_EXTERNAL_DATA_FILE_BIT,
  QCOW2_MAGIC,
  V3_HEADER_LENGTH,
} from '../constants.ts';
import type { Qcow2Options } from './options.ts';

export interface HeaderFields {
  virtualSizeBytes: number;
  l1EntryCount: number;
  /** 0 when there is no L1 table. */
  l1TableOffset: number;
  refcountTableOffset: number;
  refcountTableClusterCount: number;
}

const INCOMPATIBLE = 0;
const COMPATIBLE = 1;
const AUTOCLEAR = 2;

/** QEMU's names of the feature bits, with which a reader can name a bit that it does not support. */
const FEATURE_NAMES: readonly (readonly [type: number, bit: number, name: string])[] = [
  [INCOMPATIBLE, INCOMPATIBLE_DIRTY_BIT, 'dirty bit'],
  [INCOMPATIBLE, INCOMPATIBLE_CORRUPT_BIT, 'corrupt bit'],
  [INCOMPATIBLE, INCOMPATIBLE_EXTERNAL_DATA_FILE_BIT, 'external data file'],
  [INCOMPATIBLE, INCOMPATIBLE_COMPRESSION_TYPE_BIT, 'compression type'],
  [INCOMPATIBLE, INCOMPATIBLE_EXTENDED_L2_BIT, 'extended L2 entries'],
  [COMPATIBLE, 0, 'lazy refcounts'],
  [AUTOCLEAR, 0, 'bitmaps'],
  [AUTOCLEAR, AUTOCLEAR_RAW_EXTERNAL_DATA_BIT, 'raw external data'],
];

/** type u8, bit u8, name 46 bytes padded with zeros */
const FEATURE_NAME_ENTRY_LENGTH = 48;

function featureNameTable(): Uint8Array {
  const table = new Uint8Array(FEATURE_NAMES.length * FEATURE_NAME_ENTRY_LENGTH);
  FEATURE_NAMES.forEach(([type, bit, name], index) => {
    const at = index * FEATURE_NAME_ENTRY_LENGTH;
    table[at] = type;
    table[at + 1] = bit;
    table.set(new TextEncoder().encode(name), at + 2);
  });
  return table;
}

interface HeaderExtension {
  type: number;
  data: Uint8Array;
}

/** type u32, length u32 (without padding), data, zeros up to a multiple of 8 */
function extensionLength({ data }: HeaderExtension): number {
  return 8 + alignUp(data.length, 8);
}

function extensionsOf(options: Qcow2Options): HeaderExtension[] {
  if (options.version === 2) return [];
  const extensions: HeaderExtension[] = [];
  if (options.backingFile !== undefined)
    extensions.push({ type: HEADER_EXTENSION_BACKING_FORMAT, data: new TextEncoder().encode(options.backingFile.format) });
  if (options.dataFile !== undefined)
    extensions.push({ type: HEADER_EXTENSION_DATA_FILE_NAME, data: new TextEncoder().encode(options.dataFile.path) });
  extensions.push({ type: HEADER_EXTENSION_FEATURE_NAMES, data: featureNameTable() });
  return extensions;
}

/** Type and length 0: ends the extensions in front of the backing file's name. */
const END_MARKER_LENGTH = 8;

interface HeaderParts {
  extensions: HeaderExtension[];
  /** The name of the backing file; it lies behind the extensions. */
  backingName: Uint8Array;
  backingNameOffset: number;
  length: number;
}

function partsOf(options: Qcow2Options): HeaderParts {
  const backingName = new TextEncoder().encode(options.backingFile?.name ?? '');
  const endMarkerLength = options.backingFile === undefined ? 0 : END_MARKER_LENGTH;
  let extensions = extensionsOf(options);
  const backingNameOffset = () =>
    V3_HEADER_LENGTH + extensions.reduce((sum, extension) => sum + extensionLength(extension), 0) + endMarkerLength;
  // The names of the features only help readers; the smallest clusters have no room for both.
  if (options.backingFile !== undefined && backingNameOffset() + backingName.length > options.clusterSizeBytes)
    extensions = extensions.filter(({ type }) => type !== HEADER_EXTENSION_FEATURE_NAMES);
  return { extensions, backingName, backingNameOffset: backingNameOffset(), length: backingNameOffset() + backingName.length };
}

/**
 * Encodes the header and its extensions. The rest of the first cluster is zeros, which also end the extensions.
 * @returns at most one cluster.
 * @throws DiskliftError `InvalidRequest` when the name of the data file or of the backing file does not fit.
 */
export function encodeHeader(options: Qcow2Options, fields: HeaderFields): Uint8Array {
  const parts = partsOf(options);
  const bytes = new Uint8Array(parts.length);
  if (bytes.length > options.clusterSizeBytes) {
    const { dataFile, backingFile } = options;
    const named = backingFile === undefined ? `data file, ${dataFile?.path},` : `base, ${backingFile.name},`;
    throw new DiskliftError(
      'InvalidRequest',
      `the name of the ${named} does not fit into a header cluster of ${options.clusterSizeBytes} bytes; use a shorter path or a larger cluster size`,
    );
  }
  const view = new DataView(bytes.buffer);
  view.setUint32(0, QCOW2_MAGIC); // magic
  view.setUint32(4, options.version); // version
  if (options.backingFile !== undefined) {
    view.setBigUint64(8, BigInt(parts.backingNameOffset)); // backing_file_offset
    view.setUint32(16, parts.backingName.length); // backing_file_size, without a NUL
    bytes.set(parts.backingName, parts.backingNameOffset);
  }
  view.setUint32(20, Math.log2(options.clusterSizeBytes)); // cluster_bits
  view.setBigUint64(24, BigInt(fields.virtualSizeBytes)); // size
  // 32 u32 crypt_method: none
  view.setUint32(36, fields.l1EntryCount); // l1_size, in entries
  view.setBigUint64(40, BigInt(fields.l1TableOffset)); // l1_table_offset
  view.setBigUint64(48, BigInt(fields.refcountTableOffset)); // refcount_table_offset
  view.setUint32(56, fields.refcountTableClusterCount); // refcount_table_clusters
  // 60 u32 nb_snapshots, 64 u64 snapshots_offset: none
  // In version 2 the header ends here, at 72: what version 3 has behind it would be read as extensions.
  if (options.version === 3) encodeVersion3(view, bytes, options, parts.extensions);
  return bytes;
}

function encodeVersion3(view: DataView, bytes: Uint8Array, options: Qcow2Options, extensions: HeaderExtension[]): void {
  const { dataFile } = options;
  if (dataFile !== undefined) view.setUint32(76, 1 << INCOMPATIBLE_EXTERNAL_DATA_FILE_BIT); // low half of u64 incompatible_features at 72
  // 80 u64 compatible_features: none
  if (dataFile?.raw === true) view.setUint32(92, 1 << AUTOCLEAR_RAW_EXTERNAL_DATA_BIT); // low half of u64 autoclear_features at 88
  view.setUint32(96, Math.log2(options.refcountBits)); // refcount_order
  view.setUint32(100, V3_HEADER_LENGTH); // header_length
  // 104 u8 compression_type: deflate, the only one that needs no feature bit; 105..111 padding
  let at = V3_HEADER_LENGTH;
  for (const extension of extensions) {
    view.setUint32(at, extension.type);
    view.setUint32(at + 4, extension.data.length);
    bytes.set(extension.data, at + 8);
    at += extensionLength(extension);
  }
}
