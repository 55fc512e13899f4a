/** Writes the receipt of an image, and moves the tracker last. */

import type { DestinationFiles, FileFacts } from '../targets/contract.ts';
import { receiptPlace } from './file-places.ts';
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

/**
 * The tag by which a later export recognises the image. Two exports may send to one place at a time; then the last
 * image is there, and its tag must not be in the receipt of the other one.
 * @param sent as the answer to the transfer states it; without a tag where the server need not state the file's own
 * @param seen at the place afterwards
 */
export function imageTag(sent: FileFacts, seen: FileFacts | undefined): string | undefined {
  const tag = seen?.sizeBytes === sent.sizeBytes ? seen.etag?.replace(/^W\//, '') : undefined;
  if (sent.etag === undefined) return tag;
  return tag !== undefined && unquoted(tag) === unquoted(sent.etag) ? tag : sent.etag;
}

function unquoted(tag: string): string {
  return tag.replaceAll('"', '');
}

/** May be repeated after a failure. @throws DiskliftError with the codes of {@link DestinationFiles} */
export async function recordImage({ files, receipt, tracker, isWritten }: Record, signal: AbortSignal): Promise<void> {
  const { image, disk, time } = receipt;
  if (!isWritten) await files.write(receiptPlace(image.place), receiptBytes(receipt), signal);
  if (tracker === undefined || image.sha256 === undefined) return;
  await files.write(tracker, trackerBytes({ image: { place: image.place, sha256: image.sha256 }, disk, time }), signal);
}
