/**
 * The contract of maps that show which blocks of a disk have changed since a base was made. A map belongs to a source,
 * which holds the disk at one point in time. Clusters, formats and bases are no concern of a map.
 *
 * 1. The source's own function opens the source with its map.
 * 2. The scan goes through `extents()` once, and reads all clusters that hold a changed byte.
 * 3. The identity of the source covers the map (`digestOfChanges`): a map that shows other changes at the end than at
 *    the start fails the seal. A map that was made by reading the disk has `confirm()` instead.
 *
 * An incomplete map makes a wrong image, and nothing else would show that. `wholeMap` therefore gives every map its
 * form: without a gap from the start of the disk to its end, or an error.
 */

import type { DiskSource, SourceExtent } from '../contract.ts';

/** `kind` is 'zeros' only where the server reports zeros; 'data' where it does not know. */
export interface ChangedExtent extends SourceExtent {
  /** Whether a byte of the extent may differ from the base. */
  isChanged: boolean;
}

export interface ChangedBlocks {
  /**
   * Extents of the whole disk in order, without gap or overlap. Each call asks again. Neighbours may be alike.
   * @param disk is read where the map is made by reading; the source itself when left out
   * @throws DiskliftError `ChangesRefused` for a map with a gap, `SourceReadError`, `Cancelled`
   */
  extents(signal: AbortSignal, disk?: DiskSource): AsyncIterable<ChangedExtent>;
  /** Size of the disk in the base, where the map shows it. */
  readonly baseSizeBytes?: number | undefined;
  /**
   * Reads the whole disk once more, and compares it with the bytes from which the map was made. The caller awaits it
   * after the scan, where the identity of the source misses writes: a map that holds at the end of the scan belongs to
   * that point in time. Absent where the map was not made by reading.
   * @param again the disk, opened again
   * @param onProgress called along the way
   * @throws DiskliftError `SourceChanged` that names the offset of a difference, `SourceReadError`, `Cancelled`
   */
  confirm?(again: DiskSource, signal: AbortSignal, onProgress?: () => void): Promise<void>;
}

/** Receives all bytes of a disk that are not zeros, from the scan of a full image. */
export interface DataRecorder {
  /** A scan begins, and what was added before does not count any more. */
  begin(): void;
  /**
   * @param bytes follow the earlier ones; what lies between them is zeros. They must not change before the promise is
   * resolved. Never fails
   */
  add(bytes: Uint8Array, offset: number): Promise<void>;
  /** All of the disk has been added. Never fails. */
  finish(): Promise<void>;
}

/** The kinds of maps of which an export can make incremental images. */
export type ChangesFrom = 'BlockHashes' | 'SnapshotMetadata' | 'VirtualMachineBackup';

export interface TrackedSource extends DiskSource {
  /** Where the map comes from. Absent where the caller has named the map. */
  readonly changesFrom?: ChangesFrom | undefined;
  /** Absent where the source was opened without a map of changes. */
  readonly changed?: ChangedBlocks | undefined;
  /** The scan of a full image gives it all data, which it then reads even where it would not have to. */
  readonly recorder?: DataRecorder | undefined;
}
