/**
 * The contract of the sources of disks, whatever a disk lies in. Every implementation passes
 * test/contract/disk-source.ts.
 *
 * 1. A caller opens the disk by the source's own function, and takes `identity()` before it reads anything.
 * 2. The scan goes through `extents()` once, and reads with `read()` the data that it compares with zeros.
 * 3. A transfer calls `read()`, or moves the bytes of `fileExtents()` from descriptor to descriptor, any number of
 *    times and in parallel.
 * 4. Before the destination can hold the whole image, the caller takes `identity()` again and compares it with the
 *    first one. Where `identityMissesWrites` is true, it also reads the disk a second time, through `openAgain()` if
 *    the source has that.
 * 5. The caller calls `dispose()` once, also after a failure.
 *
 * All errors are DiskliftErrors. `SourceReadError` and `SourceChanged` may be retried from the first step: storage can
 * recover and a writer can stop. `Cancelled` means that the caller has aborted `signal`; it follows at once, whatever
 * hangs.
 */

/** Bytes of the disk. A reader need not read zeros. */
export interface SourceExtent {
  offset: number;
  length: number;
  kind: 'data' | 'zeros';
}

/**
 * The holes that a source must report; 'all' when left out. 'worthwhile' is for a reader that finds zeros by itself. A
 * source may then report holes as data where they are many and short, because a query for each takes longer than
 * reading them.
 */
export type WantedHoles = 'all' | 'worthwhile';

/** Facts that must not change during an export. Two identities are the same when all their facts are. */
export type SourceIdentity = Readonly<Record<string, string>>;

/** Bytes of a file that are bytes of the disk. */
export interface FileExtent {
  /** Offset on the disk. */
  offset: number;
  length: number;
  fd: number;
  /** Offset in the file of `fd`. */
  fileOffset: number;
}

export interface DiskSource {
  /** The path or name of the disk in messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** The format of the disk's image, as QEMU calls it (qcow2, vpc); raw when left out. */
  readonly format?: string;
  /** One sentence about the disk for the user; it does not stop the export. */
  readonly notice?: string;
  /**
   * The disk's extents in order, without gap or overlap, from 0 to `sizeBytes`. Neighbours of one kind may be one
   * extent or several.
   * @throws DiskliftError `SourceReadError` that names the offset, `Cancelled`
   */
  extents(signal: AbortSignal, holes?: WantedHoles): AsyncIterable<SourceExtent>;
  /**
   * Fills the whole of `buffer` from `offset` on.
   * @throws DiskliftError `SourceReadError` that names the offset, `SourceChanged` where the disk ends early,
   * `Cancelled` at once when `signal` is aborted; then `buffer` may still be written to and must not be used again
   */
  read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /**
   * Whether the page cache shows a byte other than zero near `offset`. Never waits for storage and never throws. False
   * proves nothing. Absent where the cache may be older than the disk.
   */
  showsData?(offset: number): boolean;
  /**
   * Finds the bytes of the disk in files, for splice(2): in order, each extent as long as possible. Bytes between them
   * are zeros, which lie in no file. Never throws. Absent where `read` is the only way to the bytes.
   */
  fileExtents?(offset: number, length: number): Iterable<FileExtent>;
  /** @throws DiskliftError `SourceChanged` where a file was replaced or is being written to, `SourceReadError` */
  identity(): Promise<SourceIdentity>;
  /**
   * True where a write may leave the identity unchanged: a block device has no times.
   */
  readonly identityMissesWrites?: boolean;
  /**
   * Opens the disk again for a second reading, which uses no cache or table of the first one. Bytes that were read
   * before are unaffected. Disposing this source disposes the returned one as well. Absent where the source caches
   * nothing.
   * @throws DiskliftError as the first opening
   */
  openAgain?(signal: AbortSignal): Promise<DiskSource>;
  /** Never rejects: a failed close concerns data that was read already, or a failure that was reported already. */
  dispose(): Promise<void>;
}
