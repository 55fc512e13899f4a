/** Writes the receipt of an image, and moves the tracker last. */

import type { DestinationFiles } from '../targets/contract.ts';
import { receiptPlace } from './read-receipt.ts';
import { type ImageReceipt, receiptBytes } from './receipt.ts';
import { trackerBytes } from './tracker.ts';

export interface Record {
  files: DestinationFiles;
  receipt: ImageReceipt;
  /** Place of the tracker; absent without one. */
  tracker?: string | undefined;
  /** Whether the receipt is at the destination already. */
  isWritten: boolean;
}

/** May be repeated after a failure. @throws DiskliftError with the codes of {@link DestinationFiles} */
export async function recordImage({ files, receipt, tracker, isWritten }: Record, signal: AbortSignal): Promise<void> {
  const { image, disk, time } = receipt;
  if (!isWritten) await files.write(receiptPlace(image.place), receiptBytes(receipt), signal);
  if (tracker === undefined || image.sha256 === undefined) return;
  await files.write(tracker, trackerBytes({ image: { place: image.place, sha256: image.sha256 }, disk, time }), signal);
}
