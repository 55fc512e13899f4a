/** A qcow2 image that exists nowhere as a file and yet can be read at any offset. */

export interface StreamRange {
  /** First byte; 0 when left out. */
  start?: number;
  /** Behind the last byte; the image's end when left out. */
  end?: number;
  signal: AbortSignal;
}

/** A stretch of the image whose bytes lie in a file as they are. */
export interface PlacedRun {
  imageOffset: number;
  length: number;
  fd: number;
  /** In the file of `fd`. */
  fileOffset: number;
}

export interface VirtualImage {
  /** Exact, known before any byte is read. */
  readonly sizeBytes: number;
  /** Of the disk that the image holds. */
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number;
  /** Equal fingerprints mean equal bytes: it covers the options, the layout and the source's identity. */
  readonly fingerprint: string;
  /** Fills the whole of `buffer` with the image's bytes from `offset` on. @throws as {@link DiskSource.read} */
  read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /** The bytes in order, read ahead. A chunk is valid until the next one is asked for; its buffer is used again. */
  stream(range: StreamRange): AsyncIterable<Uint8Array>;
  /**
   * For targets that can move bytes from descriptor to descriptor: what of the image can be moved, in order and each run as long as can be.
   * What is between must be read.
   */
  placedRuns?(start: number, end: number): Iterable<PlacedRun>;
}
