/** Parses the header of an image from another program, and the files that it names (qcow2.rst, "Header"). */

import { type BoundedView, boundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';
import {
  AUTOCLEAR_BITMAPS_BIT,
  AUTOCLEAR_RAW_EXTERNAL_DATA_BIT,
  DEFAULT_REFCOUNT_BITS,
  HEADER_EXTENSION_BACKING_FORMAT,
  HEADER_EXTENSION_BITMAPS,
  HEADER_EXTENSION_DATA_FILE_NAME,
  HEADER_EXTENSION_ENCRYPTION,
  HEADER_EXTENSION_END,
  INCOMPATIBLE_COMPRESSION_TYPE_BIT,
  INCOMPATIBLE_CORRUPT_BIT,
  INCOMPATIBLE_DIRTY_BIT,
  INCOMPATIBLE_EXTENDED_L2_BIT,
  INCOMPATIBLE_EXTERNAL_DATA_FILE_BIT,
  MAX_BACKING_FILE_NAME_LENGTH,
  MAX_CLUSTER_SIZE_BYTES,
  MAX_L1_TABLE_SIZE_BYTES,
  MAX_REFCOUNT_TABLE_SIZE_BYTES,
  MAX_SNAPSHOT_COUNT,
  MIN_CLUSTER_SIZE_BYTES,
  MIN_V3_HEADER_LENGTH,
  QCOW2_MAGIC,
  REFCOUNT_BITS,
  TABLE_ENTRY_SIZE_BYTES,
  V2_HEADER_LENGTH,
} from '../constants.ts';

export interface Qcow2Header {
  version: 2 | 3;
  clusterSizeBytes: number;
  /** Size of the guest's disk according to the header. QEMU reads whole sectors only and ignores the rest. */
  sizeBytes: number;
  encryption: 'none' | 'aes' | 'luks';
  /** Covers the whole disk. The tables' offsets are multiples of the cluster size. */
  l1EntryCount: number;
  l1TableOffset: number;
  refcountTableOffset: number;
  refcountTableClusterCount: number;
  refcountBits: number;
  snapshotCount: number;
  snapshotsOffset: number;
  /** Refcounts may be wrong, which matters to writers only. */
  isDirty: boolean;
  /** QEMU has found the metadata to be wrong. */
  isCorrupt: boolean;
  /** L2 entries have 16 bytes, with two bits for each 32nd of a cluster. */
  hasExtendedL2: boolean;
  compression: 'deflate' | 'zstd';
  backingFile?: BackingFileName;
  /** Without a name, only a user who knows the file can read the image. Raw: the file is readable without the image. */
  dataFile?: { name?: string; isRaw: boolean };
  /** The directory of the persistent bitmaps, where the image says that they are valid. */
  bitmaps?: BitmapDirectory;
}

interface BitmapDirectory {
  count: number;
  offset: number;
  sizeBytes: number;
}

/** In the order of their numbers. */
const ENCRYPTIONS: readonly Qcow2Header['encryption'][] = ['none', 'aes', 'luks'];
const COMPRESSIONS: readonly Qcow2Header['compression'][] = ['deflate', 'zstd'];

const MIN_EXTENDED_L2_CLUSTER_SIZE_BYTES = 16_384;
const EXTENDED_L2_ENTRY_SIZE_BYTES = 16;
const COMPRESSION_TYPE_AT = 104;
const KNOWN_INCOMPATIBLE = (1 << (INCOMPATIBLE_EXTENDED_L2_BIT + 1)) - 1;

/**
 * @param bytes the beginning of the file, of 24 bytes or more
 * @param name of the file, for messages
 * @returns the length, in bytes, of the part of the file that {@link parseHeader} needs
 * @throws DiskliftError `FormatUnsupported`
 */
export function qcow2ClusterSize(bytes: Uint8Array, name: string): number {
  const view = boundedView({ bytes, name });
  if (view.u32(0) !== QCOW2_MAGIC) throw view.refuse('not a qcow2 image');
  const version = view.u32(4);
  if (version !== 2 && version !== 3) throw view.refuse(`qcow2 version ${version} is not known; 2 and 3 are`);
  const sizeBytes = 2 ** view.u32(20); // cluster_bits
  if (sizeBytes < MIN_CLUSTER_SIZE_BYTES || sizeBytes > MAX_CLUSTER_SIZE_BYTES)
    throw view.refuse('its qcow2 header has a cluster size that is not from 512 bytes to 2 MiB');
  return sizeBytes;
}

/**
 * Refuses what QEMU refuses: unknown features, contradictions, and tables that are too large.
 * @param bytes the first cluster, or the whole file if it is shorter
 * @param name of the file, for messages
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseHeader(bytes: Uint8Array, name: string): Qcow2Header {
  const clusterSizeBytes = qcow2ClusterSize(bytes, name);
  const view = boundedView({ bytes: bytes.subarray(0, clusterSizeBytes), name });
  const encryption = ENCRYPTIONS[view.u32(32)]; // crypt_method
  if (encryption === undefined) throw view.refuse('is encrypted in a way that is not known');
  const { headerLength, hasDataFile, hasRawDataFile, hasBitmaps, ...reading } = parseVersionedFields(view, clusterSizeBytes);
  const { backingFile, dataFileName, bitmaps } = parseReferences(view, { clusterSizeBytes, headerLength, encryption });
  if (hasRawDataFile && !hasDataFile) throw view.refuse('says that its data file is raw, and has none');
  if (hasDataFile && hasRawDataFile && backingFile !== undefined)
    throw view.refuse('has a backing file and a raw data file, which exclude each other');
  return {
    clusterSizeBytes,
    sizeBytes: view.u64(24), // size
    encryption,
    ...parseTables(view, clusterSizeBytes, reading.hasExtendedL2),
    ...reading,
    ...(backingFile === undefined ? {} : { backingFile }),
    ...(hasDataFile ? { dataFile: { ...(dataFileName === undefined ? {} : { name: dataFileName }), isRaw: hasRawDataFile } } : {}),
    // A program that does not know bitmaps clears the feature when it writes, and leaves the extension.
    ...(hasBitmaps && bitmaps !== undefined ? { bitmaps } : {}),
  };
}

/** The fields of version 3, with their implied values for version 2. */
function parseVersionedFields(view: BoundedView, clusterSizeBytes: number) {
  const version: 2 | 3 = view.u32(4) === 2 ? 2 : 3; // version
  const headerLength = version === 2 ? V2_HEADER_LENGTH : view.u32(100); // header_length
  if (headerLength > clusterSizeBytes || (version === 3 && headerLength < MIN_V3_HEADER_LENGTH))
    throw view.refuse(`its qcow2 header cannot have ${headerLength} bytes`);
  const incompatible = version === 2 ? 0 : knownFeatures(view);
  const autoclear = version === 2 ? 0 : view.u32(92); // low half of u64 autoclear_features at 88
  const has = (bit: number) => (incompatible & (1 << bit)) !== 0;
  const refcountOrder = version === 2 ? Math.log2(DEFAULT_REFCOUNT_BITS) : view.u32(96); // refcount_order
  const refcountBits = REFCOUNT_BITS[refcountOrder];
  if (refcountBits === undefined) throw view.refuse(`has refcounts of 2^${refcountOrder} bits, which qcow2 does not know`);
  const hasExtendedL2 = has(INCOMPATIBLE_EXTENDED_L2_BIT);
  if (hasExtendedL2 && clusterSizeBytes < MIN_EXTENDED_L2_CLUSTER_SIZE_BYTES)
    throw view.refuse('has extended L2 entries, for which its clusters are too small');
  const compressionType = headerLength > COMPRESSION_TYPE_AT ? view.u8(COMPRESSION_TYPE_AT) : 0; // compression_type
  const compression = COMPRESSIONS[compressionType];
  if (compression === undefined || has(INCOMPATIBLE_COMPRESSION_TYPE_BIT) !== (compression !== 'deflate'))
    throw view.refuse(`has the compression type ${compressionType}, which is not known or not among its features`);
  return {
    version,
    headerLength,
    refcountBits,
    hasExtendedL2,
    compression,
    isDirty: has(INCOMPATIBLE_DIRTY_BIT),
    isCorrupt: has(INCOMPATIBLE_CORRUPT_BIT),
    hasDataFile: has(INCOMPATIBLE_EXTERNAL_DATA_FILE_BIT),
    hasBitmaps: (autoclear & (1 << AUTOCLEAR_BITMAPS_BIT)) !== 0,
    hasRawDataFile: (autoclear & (1 << AUTOCLEAR_RAW_EXTERNAL_DATA_BIT)) !== 0,
  };
}

/** The incompatible features, as bits. A reader that does not support one of them cannot read the image. */
function knownFeatures(view: BoundedView): number {
  const [high, low] = [view.u32(72), view.u32(76)]; // u64 incompatible_features
  if (high !== 0 || low > KNOWN_INCOMPATIBLE) throw view.refuse('has features of qcow2 that are not known');
  return low;
}

/** The places of the tables, checked against the limits of QEMU. */
function parseTables(view: BoundedView, clusterSizeBytes: number, hasExtendedL2: boolean) {
  const tables = {
    l1EntryCount: view.u32(36), // l1_size
    l1TableOffset: view.u64(40), // l1_table_offset
    refcountTableOffset: view.u64(48), // refcount_table_offset
    refcountTableClusterCount: view.u32(56), // refcount_table_clusters
    snapshotCount: view.u32(60), // nb_snapshots
    snapshotsOffset: view.u64(64), // snapshots_offset
  };
  const entriesPerTable = clusterSizeBytes / (hasExtendedL2 ? EXTENDED_L2_ENTRY_SIZE_BYTES : TABLE_ENTRY_SIZE_BYTES);
  const neededEntryCount = Math.ceil(view.u64(24) / (clusterSizeBytes * entriesPerTable));
  const l1SizeBytes = tables.l1EntryCount * TABLE_ENTRY_SIZE_BYTES;
  if (tables.l1EntryCount < neededEntryCount || l1SizeBytes > MAX_L1_TABLE_SIZE_BYTES)
    throw view.refuse(`its L1 table cannot have ${tables.l1EntryCount} entries; its disk needs ${neededEntryCount}`);
  if (tables.refcountTableClusterCount === 0 || tables.refcountTableClusterCount * clusterSizeBytes > MAX_REFCOUNT_TABLE_SIZE_BYTES)
    throw view.refuse(`its refcount table cannot have ${tables.refcountTableClusterCount} clusters`);
  if (tables.snapshotCount > MAX_SNAPSHOT_COUNT) throw view.refuse(`has ${tables.snapshotCount} snapshots, which are too many`);
  for (const offset of [tables.l1TableOffset, tables.refcountTableOffset, tables.snapshotsOffset])
    if (offset % clusterSizeBytes !== 0) throw view.refuse(`has a table at ${offset}, which is not the beginning of a cluster`);
  return tables;
}

interface BackingFileName {
  /** Never empty. The text of the image's author: a path, or another kind of name that QEMU opens. */
  name: string;
  format?: string;
}

interface HeaderReferences {
  backingFile?: BackingFileName;
  dataFileName?: string;
  bitmaps?: BitmapDirectory;
}

interface HeaderBounds {
  clusterSizeBytes: number;
  headerLength: number;
  encryption: 'none' | 'aes' | 'luks';
}

/** QEMU keeps the name of the format in this many bytes and a NUL. */
const MAX_FORMAT_LENGTH = 15;
const ENCRYPTION_EXTENSION_LENGTH = 16;
const BITMAPS_EXTENSION_LENGTH = 24;
const UNDERSTOOD: ReadonlySet<number> = new Set([
  HEADER_EXTENSION_BACKING_FORMAT,
  HEADER_EXTENSION_DATA_FILE_NAME,
  HEADER_EXTENSION_ENCRYPTION,
  HEADER_EXTENSION_BITMAPS,
]);

/**
 * @param view of the first cluster, or of the whole file where that is shorter
 * @throws DiskliftError `FormatUnsupported`
 */
function parseReferences(view: BoundedView, bounds: HeaderBounds): HeaderReferences {
  const backingNameOffset = view.u64(8); // backing_file_offset
  const backingNameLength = view.u32(16); // backing_file_size
  if (backingNameOffset > bounds.clusterSizeBytes) throw view.refuse('names its backing file outside of its first cluster');
  const hasBackingName = backingNameOffset !== 0 && backingNameLength !== 0;
  if (hasBackingName && backingNameLength > Math.min(MAX_BACKING_FILE_NAME_LENGTH, bounds.clusterSizeBytes - backingNameOffset))
    throw view.refuse('the name of its backing file is too long');
  const end = backingNameOffset === 0 ? bounds.clusterSizeBytes : backingNameOffset;
  const { format, ...others } = parseExtensions(view, end, bounds);
  return {
    ...(hasBackingName
      ? { backingFile: { name: view.text(backingNameOffset, backingNameLength), ...(format === undefined ? {} : { format }) } }
      : {}),
    ...others,
  };
}

interface NamedByExtensions extends Omit<HeaderReferences, 'backingFile'> {
  format?: string;
}

/** type u32, length u32 (without padding), data, zeros up to a multiple of 8; to the one of type 0, or `end` */
function parseExtensions(view: BoundedView, end: number, { headerLength, encryption }: HeaderBounds): NamedByExtensions {
  const found = new Map<number, { at: number; length: number }>();
  let at = headerLength;
  while (at < end) {
    const type = view.u32(at);
    // Other programs may end the list without a length.
    const length = type === HEADER_EXTENSION_END && at + 8 > view.length ? 0 : view.u32(at + 4);
    if (type === HEADER_EXTENSION_END && length === 0) break;
    if (at + 8 + length > end) throw view.refuse(`its header extension at byte ${at} is too large`);
    if (type === HEADER_EXTENSION_END) break;
    // QEMU uses the last one; other programs may not.
    if (found.has(type) && UNDERSTOOD.has(type)) throw view.refuse(`has two header extensions of the type 0x${type.toString(16)}`);
    found.set(type, { at: at + 8, length });
    at = alignUp(at + 8 + length, 8);
  }
  const text = (type: number, maxLength = end) => {
    const extension = found.get(type);
    if (extension === undefined || extension.length === 0) return undefined;
    if (extension.length > maxLength) throw view.refuse('the name of the format of its backing file is too long');
    return view.text(extension.at, extension.length);
  };
  const encryptionLength = found.get(HEADER_EXTENSION_ENCRYPTION)?.length;
  if (encryptionLength !== (encryption === 'luks' ? ENCRYPTION_EXTENSION_LENGTH : undefined))
    throw view.refuse('its encryption and the header extension for it do not match');
  const format = text(HEADER_EXTENSION_BACKING_FORMAT, MAX_FORMAT_LENGTH);
  const dataFileName = text(HEADER_EXTENSION_DATA_FILE_NAME);
  const bitmapsPlace = found.get(HEADER_EXTENSION_BITMAPS);
  return {
    ...(format === undefined ? {} : { format }),
    ...(dataFileName === undefined ? {} : { dataFileName }),
    ...(bitmapsPlace === undefined ? {} : { bitmaps: parseBitmaps(view, bitmapsPlace) }),
  };
}

function parseBitmaps(view: BoundedView, { at, length }: { at: number; length: number }): BitmapDirectory {
  if (length !== BITMAPS_EXTENSION_LENGTH) throw view.refuse('its header extension for bitmaps has a wrong length');
  if (view.u32(at + 4) !== 0) throw view.refuse('its header extension for bitmaps has a reserved field that is in use'); // reserved32
  return { count: view.u32(at), sizeBytes: view.u64(at + 8), offset: view.u64(at + 16) };
}
