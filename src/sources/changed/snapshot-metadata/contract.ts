/**
 * The SnapshotMetadata service of a CSI driver (cbt.storage.k8s.io/v1beta1), which lists byte ranges of a snapshot:
 * those that have data, or those that differ from an older snapshot.
 *
 * 1. `listRanges` reads the whole list before the scan begins. A list that is refused, or a base that is
 *    gone, is then known in time for another kind of image.
 * 2. `changedBlocksOf` and `dataExtentsOf` turn the list into extents of the disk.
 *
 * A list is whole when the service ended its stream in order. All messages state one capacity and one style. The ranges
 * ascend, do not overlap and lie on the volume. Anything else is refused.
 */

import type { Clock } from '../../../common/clock.ts';

/** The service of one driver, from its SnapshotMetadataService. */
export interface MetadataService {
  /** HOST:PORT. */
  address: string;
  /** PEM: authorities of the server's certificate. */
  caCert: string;
  /**
   * File of a ServiceAccount's token for the audience of the service. The kubelet replaces the token before it
   * expires, so each call reads the file.
   */
  tokenFile: string;
  /**
   * Finds the address to connect to, within the policy of the network.
   * @throws DiskliftError for a host without an address, or with one that is not allowed
   */
  locate(host: string, signal: AbortSignal): Promise<string>;
}

interface SnapshotName {
  namespace: string;
  /** The VolumeSnapshot. */
  name: string;
}

export interface RangesQuestion {
  service: MetadataService;
  snapshot: SnapshotName;
  /** Handle of the older snapshot at its driver. Left out: the ranges that have data. */
  baseHandle?: string | undefined;
  clock: Clock;
  /** Returns a number in [0, 1). */
  random(): number;
  signal: AbortSignal;
}

/** Ranges in ascending order. Neighbours do not touch. */
export interface RangeList {
  capacityBytes: number;
  /** Number of ranges. */
  count: number;
  /** Offsets of the ranges; entries from `count` on mean nothing. */
  starts: Float64Array;
  ends: Float64Array;
}

/** One message of the service, as it came. */
export interface RangesMessage {
  style: string;
  capacityBytes: number;
  ranges: readonly { offset: number; length: number }[];
}
