/** A source of changes: how a disk is opened so that it shows what has changed since a base. */

import { DiskliftError } from '../common/errors.ts';
import type { BaseImage } from '../receipts/contract.ts';
import type { ReceiptPoints } from '../receipts/receipt.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import type { DestinationFiles } from '../targets/contract.ts';

export interface ChangesQuestion {
  /** Opens the disk itself. */
  open(signal: AbortSignal): Promise<TrackedSource>;
  /** Present where the image is to hold only what has changed since then. */
  base?: BaseImage | undefined;
  /** Files beside the images, with the present credentials. */
  createFiles(): Promise<DestinationFiles>;
}

export interface OpenedChanges {
  /** Has a map of changes where the question has a base. */
  source: TrackedSource;
  /**
   * Called after the image has arrived, and perhaps again. Writes the files from which the next image counts.
   * @throws DiskliftError
   */
  savePoints(files: DestinationFiles, place: string, signal: AbortSignal): Promise<ReceiptPoints>;
}

/**
 * Opens the disk where nothing shows its changes: a full image is possible.
 * @param why there is no map of changes, in words
 * @throws DiskliftError `ChangesMissing` for an incremental image; errors of opening the disk
 */
export async function openWithoutMap({ open, base }: ChangesQuestion, why: string, signal: AbortSignal): Promise<OpenedChanges> {
  if (base !== undefined) throw new DiskliftError('ChangesMissing', why);
  return { source: await open(signal), savePoints: async () => ({}) };
}

export interface ChangesRow {
  /** @returns why the request cannot use it, or undefined */
  problem(request: DiskExport): string | undefined;
  /** @throws DiskliftError also `ChangesMissing` and `ChangesRefused`; the disk is closed then */
  open(question: ChangesQuestion, signal: AbortSignal): Promise<OpenedChanges>;
}
