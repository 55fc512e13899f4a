/**
 * The contract of an image that does not exist as a file and can be read at any offset.
 *
 * 1. `prepareImage` scans a disk and makes the image; `sizeBytes` and `fingerprint` are final from then on.
 * 2. A target compares `fingerprint` with the one of an interrupted transfer, and resumes only if they are equal.
 * 3. It takes the bytes with `stream()` or `read()`, or moves those of `fileExtents()` from descriptor to descriptor.
 *    Any order, any number of times, and parallel calls are allowed.
 * 4. Before the destination can hold the whole image, the target calls the seal of the prepared image. A failed seal
 *    means that the bytes may belong to different states of the disk, so the destination must not keep them.
 *
 * All errors are DiskliftErrors. `SourceReadError` and `SourceChanged` are retryable, with a new scan. `Cancelled`
 * means that the caller aborted `signal`.
 */

export interface StreamRange {
  /** First byte. Default 0. */
  start?: number;
  /** Offset behind the last byte. Default: the image's end. */
  end?: number;
  signal: AbortSignal;
}

/** A run of the image whose bytes a file on the host holds as they are. */
export interface ImageFileExtent {
  imageOffset: number;
  length: number;
  fd: number;
  /** Offset in the file of `fd`. */
  fileOffset: number;
}

export interface VirtualImage {
  /** Exact, known before any byte is read. */
  readonly sizeBytes: number;
  /** Size of the disk that the image holds. */
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number;
  /** Equal fingerprints mean equal bytes: it covers the options, the layout and the source's identity. */
  readonly fingerprint: string;
  /**
   * Fills the whole of `buffer` with the image's bytes from `offset` on.
   * @throws DiskliftError as {@link DiskSource.read}; RangeError for bytes outside the image
   */
  read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /**
   * The bytes in order, read ahead. A chunk is valid until the caller requests the next one, because its buffer is
   * used again.
   * @throws DiskliftError as {@link DiskSource.read}
   */
  stream(range: StreamRange): AsyncIterable<Uint8Array>;
  /**
   * The parts of the image that files hold, in order and each as long as possible, for targets that move bytes from
   * descriptor to descriptor. The bytes between them must be read. Never throws. Absent where every byte must be read.
   */
  fileExtents?(start: number, end: number): Iterable<ImageFileExtent>;
}
