/**
 * An export as the engine runs it. `runExport` brings the disks of a plan to their destination, one after the other:
 *
 * 1. For each attempt `createTarget` makes a target with the present credentials, and the target checks the
 *    destination.
 * 2. `openSource` opens the disk. The engine waits while the disk is in use. Then it scans the disk, once for all
 *    attempts.
 * 3. `createTarget` again, because the scan may take hours; then the target sends the image. It saves an upload that
 *    outlives the connection by `claim.saveStates` before it puts anything into it.
 * 4. At the seal the engine compares the disk with what it scanned, and calls `claim.assertHeld` last. Only then may
 *    the destination complete the image.
 * 5. `record` leaves the receipt beside the image, after another call of `claim.assertHeld`. A failed record is
 *    repeated without sending the image again.
 *
 * An incremental image adds `incremental.chooseBase` between the first and the second step, and `confirmBase` to the
 * seal. Where no incremental image is possible, the engine makes a full one, or fails, as `fallback` says.
 *
 * A retryable DiskliftError from any of these calls is followed by another attempt, up to `backoffLimit`; any other
 * DiskliftError ends the disk. `ExecutorLost` leaves everything as it is for another process. Errors of other classes
 * are mistakes of this program and are thrown on.
 */

import type { Clock } from '../common/clock.ts';
import type { DiskliftError } from '../common/errors.ts';
import type { ImageOptions } from '../image/prepare-image.ts';
import type { BaseChoice, BaseImage, ImageType } from '../receipts/contract.ts';
import type { ImageReceipt } from '../receipts/receipt.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import type { ExportTarget, Receipt } from '../targets/contract.ts';
import type { Slot } from './export-slots.ts';
import type { DiskState, ExportEnd, ExportObserver } from './observer.ts';

export interface DiskPlan extends ImageOptions {
  /** Relative to the volume; names the disk in the status. */
  path: string;
  /**
   * @throws DiskliftError a retryable `SourceInUse` or `InUseUnknown` while the disk is in use: the engine waits for
   * the disk, which uses no attempt; for a base, also `ChangesMissing` and `ChangesRefused`
   * @param base with it, the source has a map of what has changed since then
   */
  openSource(signal: AbortSignal, base?: BaseImage): Promise<TrackedSource>;
  /** Left out where the request asks for full images. */
  incremental?: IncrementalPlan | undefined;
  /**
   * Writes the receipt, and moves the tracker last. Left out where no receipt is wanted.
   * @returns why there is no receipt, where the request does not insist on it
   * @throws DiskliftError
   */
  record?(image: ArrivedImage, signal: AbortSignal): Promise<string | undefined>;
  /** Called for each attempt, so that new credentials are used. @throws DiskliftError */
  createTarget(): Promise<ExportTarget>;
  /** The state in which another process left the disk. */
  state?: DiskState | undefined;
}

interface IncrementalPlan {
  /** The engine does this where no incremental image is possible. */
  fallback: 'Full' | 'Fail';
  /** Called in each attempt that scans. @throws DiskliftError also the codes of `BASE_FAILURES` */
  chooseBase(signal: AbortSignal): Promise<BaseChoice>;
  /** @throws DiskliftError `BaseMissing` and `BaseChanged` where the base is no longer what it was */
  confirmBase(base: BaseImage, signal: AbortSignal): Promise<void>;
}

/** An image that the destination has. */
export type ArrivedImage =
  | {
      kind: 'sent';
      receipt: Receipt;
      virtualBytes: number;
      dataClusters: number;
      readBytes: number;
      /** Absent without {@link IncrementalPlan}. */
      type?: ImageType | undefined;
      /** Present for an incremental image. */
      base?: BaseImage | undefined;
      changedBytes?: number | undefined;
    }
  /** An earlier run has written the receipt, and perhaps not moved the tracker. */
  | { kind: 'recorded'; receipt: ImageReceipt };

export interface DiskRules {
  checksum: 'SHA256' | 'None';
  /** Failed attempts that are retried. */
  backoffLimit: number;
}

export interface ExportPlan extends DiskRules {
  disks: readonly DiskPlan[];
  /** One sentence for each file on the volume that may be a disk and is not sent; none when left out. */
  leftOut?: readonly string[] | undefined;
  /** Counted from `startMs`. No deadline when left out. */
  activeDeadlineSeconds?: number | undefined;
  /** Start of the export, maybe in another process: milliseconds since the epoch. Now when left out. */
  startMs?: number | undefined;
}

export interface ExportResult {
  /** Pending: this process lost the export, which has not ended. */
  phase: ExportEnd;
  disks: readonly DiskState[];
  /** Failure of the first disk that did not arrive. */
  failure?: DiskliftError;
}

/** The claim under which an export runs. */
export interface ExportClaim {
  /**
   * Awaited before anything irreversible.
   * @throws DiskliftError `ExecutorLost` when another process owns the export or may
   */
  assertHeld(): Promise<void>;
  /**
   * Resolves when the present states of the disks would survive the death of this process.
   * @throws DiskliftError `StoreRefused`, `StoreUnavailable`, `ExecutorLost`
   */
  saveStates(): Promise<void>;
}

export interface EngineContext {
  /** When it is aborted with `ExecutorLost`, uploads stay open for the next process. */
  signal: AbortSignal;
  /** Aborted when the process must end; then the next process cleans up. Left out where no process follows. */
  stopping?: AbortSignal | undefined;
  claim: ExportClaim;
  /** Held. Left out where the number of exports that run at a time has no limit. */
  slot?: Slot | undefined;
  clock: Clock;
  /** Returns numbers in [0, 1). */
  random(): number;
  observer: ExportObserver;
  /** Logs one line about something that does not stop the export. */
  warn(message: string): void;
}
