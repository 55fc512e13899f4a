/**
 * The engine reports to observers while it serves requests: to the log, the metrics, the registry of exports and the
 * terminal. It calls for each request:
 *
 * 1. `onRead` whenever the engine has read the request from the store, and when the request is gone.
 * 2. `onBegin` when a run of it begins here. The watcher that it returns receives `onChange`, `onProgress`, `onRetry`
 *    and `onWait` during the run, and `end` once.
 * 3. `onStatus` before each write of its status, during the run and outside of it.
 *
 * Observers change nothing about an export. They must neither throw nor take long, because the export waits for them.
 */

import type { DiskliftError } from '../common/errors.ts';
import type { PreparedImage } from '../image/prepare-image.ts';
import type { ImageType } from '../receipts/contract.ts';
import type { DiskExport, DiskExportStatus, DiskStatus } from '../resource/disk-export.ts';
import type { Proof, Receipt, ResumeState } from '../targets/contract.ts';

export type Phase = 'Pending' | 'Scanning' | 'Streaming' | 'Verifying' | 'Succeeded' | 'Failed' | 'Cancelled';

/** Phase at the end of a run. Pending: another run must continue the export. */
export type ExportEnd = Extract<Phase, 'Succeeded' | 'Failed' | 'Cancelled' | 'Pending'>;

const ENDS = ['Failed', 'Cancelled'] as const;

/**
 * Phases of a disk that may follow each other. A disk that is to be retried is Pending; when it was scanned already it
 * streams at once, and when its image has arrived only the receipt is left.
 */
const NEXT: Readonly<Record<Phase, readonly Phase[]>> = {
  Pending: ['Scanning', 'Streaming', 'Verifying', 'Pending', ...ENDS],
  Scanning: ['Streaming', 'Pending', ...ENDS],
  Streaming: ['Verifying', 'Pending', ...ENDS],
  Verifying: ['Succeeded', 'Pending', ...ENDS],
  Succeeded: [],
  Failed: [],
  Cancelled: [],
};

/** @returns `to` @throws RangeError when `to` cannot follow `from`: a mistake of this program */
export function step(from: Phase, to: Phase): Phase {
  if (!NEXT[from].includes(to)) throw new RangeError(`an export cannot go from ${from} to ${to}`);
  return to;
}

export function isFinal(phase: Phase): boolean {
  return NEXT[phase].length === 0;
}

/** State of one disk of an export. The engine changes it while the export runs. Sizes are bytes. */
export interface DiskState {
  /** Relative to the volume. */
  readonly path: string;
  phase: Phase;
  /** Attempts that have begun. */
  attempts: number;
  readonly clusterSizeBytes: number;
  /** Raw, QCOW2, VMDK, ... Known when the disk is open, like `virtualBytes`. */
  format?: string;
  virtualBytes?: number;
  /** Note for the user about the disk; it does not stop the export. */
  notice?: string;
  /** In the last scan. */
  scannedBytes: number;
  /** Read from the disk in all attempts of this process. */
  readBytes: number;
  /** Known when the disk is scanned, like `metadataBytes`, `clusters` and `map`. */
  imageBytes?: number;
  /** Bytes of the image before its data. */
  metadataBytes?: number;
  clusters?: PreparedImage['layout']['map']['clusters'];
  /** Absent for a disk that another process has scanned. */
  map?: PreparedImage['layout']['map'];
  /** In the current attempt. */
  sentBytes: number;
  /** Whether an earlier process may have sent bytes: the destination may hold an image of this export. */
  mayHaveSent?: boolean;
  /** The upload of this disk that is open at the destination. */
  upload?: ResumeState | undefined;
  /** Present when the disk has arrived. */
  receipt?: Receipt;
  /** Present with `spec.incremental`, when the type of the image is known. */
  imageType?: ImageType;
  /** Bytes of the disk that an incremental image holds, zeros included. */
  changedBytes?: number;
  /** Why the image has no receipt beside it, where the request does not insist on one. */
  receiptRefusal?: string;
  /** Failure of the last attempt, or why the disk is in use while the export waits for it. */
  failure?: DiskliftError | undefined;
  /** Time of the next attempt in milliseconds since the epoch, while the disk waits for it. */
  nextAttemptMs?: number;
  /** Whether the wait for the disk or for the next attempt is over and the export waits for a slot. */
  isQueued?: boolean;
}

/** The state of a disk before its first attempt. */
export function newDiskState({ path, qcow2 }: { path: string; qcow2: { clusterSizeBytes: number } }): DiskState {
  return { path, clusterSizeBytes: qcow2.clusterSizeBytes, phase: 'Pending', attempts: 0, scannedBytes: 0, readBytes: 0, sentBytes: 0 };
}

export interface ClusterCounts {
  total: number;
  /** Classified by the scan as hole, zero or data. */
  scanned: number;
  /** Left out of the image: holes, zeros, and what is unchanged since the base. */
  skipped: number;
  /** Clusters of data that were sent in the current attempt. */
  written: number;
  /** Clusters of metadata that were sent in the current attempt. */
  writtenMetadata: number;
}

/** Clusters of a disk that are scanned, skipped and written so far: the numbers of the status and of the metrics. */
export function countClusters(disk: DiskState): ClusterCounts {
  const { clusterSizeBytes, virtualBytes = 0, scannedBytes, sentBytes, metadataBytes = 0 } = disk;
  return {
    total: Math.ceil(virtualBytes / clusterSizeBytes),
    // Only the last cluster of a disk may be shorter than the others.
    scanned: scannedBytes === virtualBytes ? Math.ceil(scannedBytes / clusterSizeBytes) : Math.floor(scannedBytes / clusterSizeBytes),
    skipped: skippedClusters(disk),
    written: Math.floor(Math.max(0, sentBytes - metadataBytes) / clusterSizeBytes),
    writtenMetadata: Math.floor(Math.min(sentBytes, metadataBytes) / clusterSizeBytes),
  };
}

/** Clusters that the image does not hold as data. */
export function skippedClusters({ clusters }: Pick<DiskState, 'clusters'>): number {
  return (clusters?.hole ?? 0) + (clusters?.zero ?? 0) + (clusters?.unchanged ?? 0);
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

/** @param name in a status or in a receipt beside an image; a status of an earlier version has none */
export function proofOf(name: string | undefined): Proof {
  return (Object.keys(PROOFS) as Proof[]).find((proof) => PROOFS[proof] === name) ?? 'status';
}

/** Fields of a receipt that the status and the pages show. */
export function receiptFacts({ location, etag, sha256, proof }: Receipt): Pick<DiskStatus, 'location' | 'etag' | 'sha256' | 'proof'> {
  return { location, ...(etag === undefined ? {} : { etag }), ...(sha256 === undefined ? {} : { sha256 }), proof: PROOFS[proof] };
}

/** Receives the events of one run. */
export interface ExportObserver {
  /** The phase has changed, or a size has become known. */
  onChange?(disk: DiskState): void;
  /** Bytes were scanned or sent. Called often. */
  onProgress?(disk: DiskState): void;
  /** An attempt has failed, and another follows in `delayMs`. */
  onRetry?(disk: DiskState, failure: DiskliftError, delayMs: number): void;
  /** The type of an image is known, or is another one than before. Only with `spec.incremental`. */
  onImageType?(disk: DiskState, type: ImageType): void;
  /** The destination has refused a receipt on which the request does not insist. */
  onReceiptRefused?(disk: DiskState, refusal: string): void;
  /** The disk is in use, and the export waits for it. Called once a wait. */
  onWait?(disk: DiskState, inUse: DiskliftError): void;
}

/** Follows one run of an export from its beginning to its end. */
export interface ExportWatcher {
  observer: ExportObserver;
  /** Called once. With Pending, another run continues the export. @param failure why the export has not succeeded */
  end(result: ExportEnd, failure?: DiskliftError): void;
}

/** A request as the store holds it. */
export type ObservedRequest =
  | { kind: 'request'; request: DiskExport }
  /** The request cannot be carried out as it is. */
  | { kind: 'invalid'; message: string; status: DiskExportStatus | undefined };

/** Observes all requests that the engine serves. Keys are `NAMESPACE/NAME`. */
export interface RequestObserver {
  /** The engine has read the request. Undefined: the request is gone. */
  onRead?(key: string, stored: ObservedRequest | undefined): void;
  /** The engine writes this status. Called even when the store refuses it, because the status is true all the same. */
  onStatus?(key: string, status: DiskExportStatus): void;
  /** A run of the request begins in this process. */
  onBegin?(key: string, request: DiskExport): ExportWatcher;
}
