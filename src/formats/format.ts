/** The types of the table of formats: facts that a row states, and the work that a format's reader does. */

import type { Limiter } from '../common/limiter.ts';
import type { Libc } from '../native/libc.ts';
import type { GuestMapping } from '../qcow2/read/guest-mapping.ts';
import type { OpenedFile } from '../sources/opened-file.ts';
import type { ImageFile } from './image-file.ts';
import type { ExtentSize, References, ReferenceToRepair } from './image-references.ts';
import type { FileToCheck } from './truncation-check.ts';

/** A row of the table. */
export interface Format {
  /** File name extensions with the dot, in lower case. */
  extensions: readonly string[];
  /** Marks in the first bytes of a file. Empty where the guest chooses the first bytes. */
  magic: readonly Magic[];
  /** The start of a text file of the format, read as latin1; undefined where no image is a text. */
  textStart: RegExp | undefined;
  /** A mark in the last sector; undefined where the format has none. */
  footer: Footer | undefined;
  /** Recognizes names of files that are parts of an image of this format; undefined where an image is one file. */
  partOf: ((fileName: string) => ImagePart | undefined) | undefined;
  /** Whether an image may name a backing file. QEMU looks for that name unless the block node rules it out. */
  mayHaveBacking: boolean;
  /** Loads the code that reads images, which most commands start without. */
  load(): Promise<FormatReader>;
}

/** The number of bytes at a file's beginning in which marks are searched. */
export const PROBED_BYTES = 512;

export interface Magic {
  at: number;
  bytes: Buffer;
}

interface Footer {
  /** The format in messages, with its article. */
  what: string;
  /** @param sector the file's last sector, which may lack bytes at its end */
  isPresent(sector: Uint8Array): boolean;
  /** Whether a checksum proves that the sector is no guest's data. */
  isProven(sector: Uint8Array): boolean;
}

export interface ImagePart {
  /** The name of the file that describes the image, in the same directory as the part. */
  descriptorName: string;
  /** Whether the part is the whole disk as the guest sees it. */
  isWholeDisk: boolean;
}

/**
 * The reader of a format. Calls come in this order: `readReferences` when a file of the format is opened; then, for an
 * image that disklift may read itself, `findPlainLayer` and the layer's `readMapping`; else `checkTruncation`, and QEMU
 * reads the image.
 *
 * All functions throw DiskliftErrors: `FormatUnsupported` for a file that is not of the format or cannot be read,
 * `SourceReadError` and `SourceChanged`, which are retryable, and `Cancelled`.
 */
export interface FormatReader {
  /** Reads the size of the disk and the names of other files, as their author wrote them. */
  readReferences(file: OpenedFile): Promise<References>;
  /**
   * The truncation check: reads all tables of the image, a piece at a time. QEMU reads zeros behind a file's end, so a
   * truncated image would be exported with zeros in place of its lost data.
   * @returns a notice for the user about an image without a backing file, or undefined
   * @throws DiskliftError `SourceReadError` that names the data past the file's end
   */
  checkTruncation(image: ImageFile, file: FileToCheck): Promise<string | undefined>;
  /** Finds the disk's bytes in files, where they lie there as they are; undefined where only QEMU reads the format. */
  findPlainLayer: FindPlainLayer | undefined;
  /** Advice for changing a name that an image holds; undefined for a format that refers to no file. */
  repairReference: ((reference: ReferenceToRepair) => string) | undefined;
  /** Reads the size of an extent in a file of its own; undefined for a format without such extents. */
  readExtentSize: ((file: OpenedFile) => Promise<ExtentSize>) | undefined;
}

/** @returns undefined where QEMU has to read this image */
type FindPlainLayer = (image: ImageFile) => Promise<PlainLayer | undefined>;

/** One image of a chain whose bytes lie in files as they are. */
export interface PlainLayer {
  /** The files that hold the image's own data. */
  files: readonly ImageFile[];
  /**
   * @returns undefined where QEMU has to read the image after all: clusters are compressed, or the ranges are too many
   */
  readMapping(below: LayerBelow, options: ReadOptions): Promise<LayerMapping | undefined>;
}

export interface LayerBelow {
  /** The mapping's number of the layer's first file. */
  firstFile: number;
  /** The mapping of the backing file. */
  backing: GuestMapping | undefined;
}

export interface LayerMapping {
  mapping: GuestMapping;
  /** A notice for the user about an image without a backing file. */
  notice?: string;
}

export interface ReadOptions {
  libc: Libc | undefined;
  readLimit: Limiter;
  signal: AbortSignal;
}
