/** What a disk is read through, whatever it lies in. Every implementation passes test/contract/disk-source.ts. */

/** A stretch of the disk, in bytes. Zeros need not be read: they are known to be zeros. */
export interface SourceExtent {
  offset: number;
  length: number;
  kind: 'data' | 'zeros';
}

/**
 * Which holes a source must report; 'all' when left out. 'worthwhile' is for a reader that finds zeros by itself. With it a source may
 * report holes as data where they are many and so short that a query for each takes longer than reading them.
 */
export type WantedHoles = 'all' | 'worthwhile';

/** Facts that must not change during an export. Two identities are the same when all their facts are. */
export type SourceIdentity = Readonly<Record<string, string>>;

/** A stretch of the disk whose bytes lie in a file as they are. */
export interface PlacedStretch {
  /** On the disk. */
  offset: number;
  length: number;
  fd: number;
  /** In the file of `fd`. */
  fileOffset: number;
}

export interface DiskSource {
  /** The path or name that messages call the disk by. */
  readonly name: string;
  readonly sizeBytes: number;
  /** What it lies in, as QEMU calls it (qcow2, vpc); raw when left out. */
  readonly format?: string;
  /** One sentence about the disk for the user; it does not stop the export. */
  readonly notice?: string;
  /** The disk's extents in order, without gap or overlap, from 0 to `sizeBytes`. */
  extents(signal: AbortSignal, holes?: WantedHoles): AsyncIterable<SourceExtent>;
  /**
   * Fills the whole of `buffer` from `offset` on.
   * @throws DiskliftError `SourceReadError` that names the offset, `SourceChanged` where the disk ends early,
   * `Cancelled` at once when `signal` is aborted; then `buffer` may still be written to and must not be used again.
   */
  read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /**
   * Whether bytes other than zero are known to lie at `offset`, without waiting for storage: a cheap look at what is
   * cached. False says nothing. Absent where the cache may be older than the disk.
   */
  showsData?(offset: number): boolean;
  /**
   * Where the bytes from `offset` on lie, for splice(2): in order, and as long as can be. What is between is in no file. Absent where
   * reading must go through `read`.
   */
  places?(offset: number, length: number): Iterable<PlacedStretch>;
  identity(): Promise<SourceIdentity>;
  /** True where the identity stays the same when the disk is written to, as that of a block device, which has no times. */
  readonly identityMissesWrites?: boolean;
  /**
   * Opens the disk again for a second reading, which uses no cache or table of the first one. Bytes that were read before are unaffected.
   * Disposing this source disposes the returned one as well. Absent where the source caches nothing.
   * @throws DiskliftError as the first opening
   */
  openAgain?(signal: AbortSignal): Promise<DiskSource>;
  /** Never rejects: a failed close concerns data that was read already, or a failure that was reported already. */
  dispose(): Promise<void>;
}
