/** Numbers of the qcow2 format (docs/interop/qcow2.rst in QEMU) and of QEMU's own limits (block/qcow2.h). */

import { KIB, MIB } from '../common/bytes.ts';

/** "QFI\xfb" */
export const QCOW2_MAGIC = 0x514649fb;

export const MIN_CLUSTER_SIZE_BYTES = 512;
export const MAX_CLUSTER_SIZE_BYTES = 2 * MIB;
export const DEFAULT_CLUSTER_SIZE_BYTES = 64 * KIB;

/** Widths that a refcount may have. Version 2 knows only {@link DEFAULT_REFCOUNT_BITS}. */
export const REFCOUNT_BITS: readonly number[] = [1, 2, 4, 8, 16, 32, 64];
export const DEFAULT_REFCOUNT_BITS = 16;

/** The size of a guest disk is whole sectors; QEMU truncates other sizes. */
export const SECTOR_SIZE_BYTES = 512;

/** L1, L2 and refcount table entries are 64-bit big-endian words. */
export const TABLE_ENTRY_SIZE_BYTES = 8;

/** QEMU refuses larger tables ("Active L1 table too large", "Reference count table too large"). */
export const MAX_L1_TABLE_SIZE_BYTES = 32 * MIB;
export const MAX_REFCOUNT_TABLE_SIZE_BYTES = 8 * MIB;

/**
 * Fields 72..111 exist from version 3 on. 112 is what QEMU writes: the spec's 104 and the compression type with its
 * padding.
 */
export const V3_HEADER_LENGTH = 112;

export const V2_HEADER_LENGTH = 72;
/** Shortest header of version 3: one without a compression type. */
export const MIN_V3_HEADER_LENGTH = 104;

/** QEMU opens no image with more. */
export const MAX_SNAPSHOT_COUNT = 65_536;
export const MAX_BACKING_FILE_NAME_LENGTH = 1023;

export const HEADER_EXTENSION_END = 0;
export const HEADER_EXTENSION_BACKING_FORMAT = 0xe2792aca;
export const HEADER_EXTENSION_DATA_FILE_NAME = 0x44415441;
export const HEADER_EXTENSION_FEATURE_NAMES = 0x6803f857;
export const HEADER_EXTENSION_ENCRYPTION = 0x0537be77;
export const HEADER_EXTENSION_BITMAPS = 0x23852875;

/** Bit numbers in the feature words. */
export const INCOMPATIBLE_DIRTY_BIT = 0;
export const INCOMPATIBLE_CORRUPT_BIT = 1;
export const INCOMPATIBLE_EXTERNAL_DATA_FILE_BIT = 2;
export const INCOMPATIBLE_COMPRESSION_TYPE_BIT = 3;
export const INCOMPATIBLE_EXTENDED_L2_BIT = 4;
export const AUTOCLEAR_BITMAPS_BIT = 0;
export const AUTOCLEAR_RAW_EXTERNAL_DATA_BIT = 1;

/** Bit 63 of an L1 or standard L2 entry, as a bit of the entry's high half: the refcount is exactly one. */
export const COPIED_FLAG_HIGH = 0x80000000;

/** Bit 0 of a standard L2 entry, from version 3 on: the cluster reads as zeros, whatever the backing file holds. */
export const ZERO_FLAG_LOW = 1;

/**
 * Most images of a chain of backing files, the first one included: disklift neither reads nor makes a longer one. A
 * longer one is a mistake or an attack, and QEMU itself becomes slow with it.
 */
export const MAX_CHAIN_LENGTH = 64;
