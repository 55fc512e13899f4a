/** What the engine tells about an export while it runs: to the status, the terminal, the metrics. */

import type { DiskliftError } from '../common/errors.ts';
import type { PreparedImage } from '../image/prepare-image.ts';
import type { Receipt, ResumeState } from '../targets/contract.ts';
import type { Phase } from './phases.ts';

/** One disk of an export, as it stands. Sizes are bytes. */
export interface DiskState {
  /** Relative to the volume. */
  readonly path: string;
  phase: Phase;
  /** Begun so far. */
  attempts: number;
  readonly clusterSizeBytes: number;
  /** Known once the disk is open. */
  virtualBytes?: number;
  /** In the last scan. */
  scannedBytes: number;
  /** Known once the disk has been scanned, as `metadataBytes` and `map` are. */
  imageBytes?: number;
  /** The part of the image in front of its data. */
  metadataBytes?: number;
  map?: PreparedImage['layout']['map'];
  /** In the current attempt. */
  sentBytes: number;
  /** What the destination holds open for this disk. */
  upload?: ResumeState | undefined;
  /** There when the disk has arrived. */
  receipt?: Receipt;
  /** Of the last attempt that failed. */
  failure?: DiskliftError;
}

/** Must neither throw nor take long: the export waits for it. */
export interface ExportObserver {
  /** The phase is another, or a size has become known. */
  onChange?(disk: DiskState): void;
  /** Bytes were scanned or sent. Called often. */
  onProgress?(disk: DiskState): void;
  /** An attempt has failed and another will follow in `delayMs`. */
  onRetry?(disk: DiskState, failure: DiskliftError, delayMs: number): void;
}
