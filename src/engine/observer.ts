/** What the engine tells about an export while it runs: to the status, the terminal, the metrics. */

import type { DiskliftError } from '../common/errors.ts';
import type { PreparedImage } from '../image/prepare-image.ts';
import type { DiskStatus } from '../resource/disk-export.ts';
import type { Proof, Receipt, ResumeState } from '../targets/contract.ts';
import type { Phase } from './phases.ts';

/** One disk of an export, as it stands. Sizes are bytes. */
export interface DiskState {
  /** Relative to the volume. */
  readonly path: string;
  phase: Phase;
  /** Begun so far. */
  attempts: number;
  readonly clusterSizeBytes: number;
  /** Known once the disk is open, as its size is: Raw, QCOW2, VMDK, ... */
  format?: string;
  virtualBytes?: number;
  /** Note for the user about the disk; it does not stop the export. */
  notice?: string;
  /** In the last scan. */
  scannedBytes: number;
  /** From the disk, in all attempts of this process. */
  readBytes: number;
  /** Known once the disk has been scanned, as `metadataBytes`, `clusters` and `map` are. */
  imageBytes?: number;
  /** The part of the image in front of its data. */
  metadataBytes?: number;
  clusters?: PreparedImage['layout']['map']['clusters'];
  /** Absent for a disk that another process has scanned. */
  map?: PreparedImage['layout']['map'];
  /** In the current attempt. */
  sentBytes: number;
  /** Whether an earlier process has sent bytes, or may have: the destination may hold an image of this export. */
  mayHaveSent?: boolean;
  /** What the destination holds open for this disk. */
  upload?: ResumeState | undefined;
  /** There when the disk has arrived. */
  receipt?: Receipt;
  /** Of the last attempt that failed, or that the disk is in use and waited for. */
  failure?: DiskliftError | undefined;
  /** There while it waits for its next attempt: milliseconds since the epoch. */
  nextAttemptMs?: number;
  /** The wait for the disk, or for the next attempt, is over, and the export waits for a slot. */
  isQueued?: boolean;
}

export interface ClusterCounts {
  total: number;
  /** The scan has decided what they are, from a hole or from their bytes. */
  scanned: number;
  /** Left out of the image: holes and zeros. */
  skipped: number;
  /** Clusters of data that were sent in the current attempt. */
  written: number;
  /** Clusters of metadata that were sent in the current attempt. */
  writtenMetadata: number;
}

/** How many clusters of a disk have been scanned, skipped and written so far: the numbers of the status and of the metrics. */
export function countClusters(disk: DiskState): ClusterCounts {
  const { clusterSizeBytes, virtualBytes = 0, scannedBytes, sentBytes, metadataBytes = 0, clusters } = disk;
  return {
    total: Math.ceil(virtualBytes / clusterSizeBytes),
    // Only the last cluster of a disk may be a part of one.
    scanned: scannedBytes === virtualBytes ? Math.ceil(scannedBytes / clusterSizeBytes) : Math.floor(scannedBytes / clusterSizeBytes),
    skipped: (clusters?.hole ?? 0) + (clusters?.zero ?? 0),
    written: Math.floor(Math.max(0, sentBytes - metadataBytes) / clusterSizeBytes),
    writtenMetadata: Math.floor(Math.min(sentBytes, metadataBytes) / clusterSizeBytes),
  };
}

/** Words of the status for each kind of proof that the image arrived. */
export const PROOFS = {
  digest: 'Digest',
  etag: 'ETag',
  checksum: 'Checksum',
  readBack: 'ReadBack',
  length: 'Length',
  status: 'Status',
  close: 'Close',
} as const satisfies Record<Proof, NonNullable<DiskStatus['proof']>>;

/** Fields of a receipt that the status and the pages show. */
export function receiptFacts({ location, etag, sha256, proof }: Receipt): Pick<DiskStatus, 'location' | 'etag' | 'sha256' | 'proof'> {
  return { location, ...(etag === undefined ? {} : { etag }), ...(sha256 === undefined ? {} : { sha256 }), proof: PROOFS[proof] };
}

/** Must neither throw nor take long: the export waits for it. */
export interface ExportObserver {
  /** The phase is another, or a size has become known. */
  onChange?(disk: DiskState): void;
  /** Bytes were scanned or sent. Called often. */
  onProgress?(disk: DiskState): void;
  /** An attempt has failed and another will follow in `delayMs`. */
  onRetry?(disk: DiskState, failure: DiskliftError, delayMs: number): void;
  /** The disk is in use and is waited for. Called once a wait. */
  onWait?(disk: DiskState, inUse: DiskliftError): void;
}

/** Follows one export from its beginning to its end. */
export interface ExportWatcher {
  observer: ExportObserver;
  /** Called once. With Pending, another process will go on with the export. `failure` tells why it has not succeeded. */
  end(result: ExportEnd, failure?: DiskliftError): void;
}

export type ExportEnd = Extract<Phase, 'Succeeded' | 'Failed' | 'Cancelled' | 'Pending'>;
