/**
 * The contract of maps that show which blocks of a disk have changed since a base was made. A map belongs to a source,
 * which holds the disk at one point in time. Clusters, formats and bases are no concern of a map.
 *
 * 1. The source's own function opens the source with its map.
 * 2. The scan goes through `extents()` once, and reads all clusters that hold a changed byte.
 * 3. The identity of the source covers the map (`digestOfChanges`): a map that shows other changes at the end than at
 *    the start fails the seal.
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
   * @throws DiskliftError `ChangesRefused` for a map with a gap, `SourceReadError`, `Cancelled`
   */
  extents(signal: AbortSignal): AsyncIterable<ChangedExtent>;
}

/** The kinds of maps of which an export can make incremental images. */
export type ChangesFrom = 'BlockHashes' | 'SnapshotMetadata' | 'VirtualMachineBackup';

export interface TrackedSource extends DiskSource {
  /** Where the map comes from. Absent where the caller has named the map. */
  readonly changesFrom?: ChangesFrom | undefined;
  /** Absent where the source was opened without a map of changes. */
  readonly changed?: ChangedBlocks | undefined;
}
