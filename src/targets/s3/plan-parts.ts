/** How an image is cut into the parts of a multipart upload. Pure. */

import { alignUp, formatBytes, GIB, MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';

/** Limits of Amazon S3, which other servers keep to: "Amazon S3 multipart upload limits" in its user guide. */
const MAX_PARTS = 10_000;
const MAX_PART_BYTES = 5 * GIB;
export const MIN_PART_BYTES = 5 * MIB;

/** With smaller parts a request costs more than its bytes; larger parts use more memory than they save time. */
const DEFAULT_PART_BYTES = 16 * MIB;

/** All parts are of one size but for the last, as Cloudflare R2 and Garage demand. */
export interface PartPlan {
  imageSizeBytes: number;
  partSizeBytes: number;
  count: number;
}

/** A range of the image. */
export interface Part {
  /** From 1 on. */
  number: number;
  offset: number;
  sizeBytes: number;
}

export interface PartWishes {
  imageSizeBytes: number;
  /** The size that the user requires. */
  partSizeBytes?: number | undefined;
  /** Maximum number of parts of a server that takes fewer than Amazon S3. */
  maxParts?: number | undefined;
  /** Smallest size of all parts except the last. */
  minPartBytes?: number | undefined;
}

/**
 * @throws DiskliftError `ImageTooLarge` where no part size is large enough, `InvalidRequest` for a required size that
 * does not work
 */
export function planParts({ imageSizeBytes, partSizeBytes, maxParts = MAX_PARTS, minPartBytes = MIN_PART_BYTES }: PartWishes): PartPlan {
  const maxImageBytes = maxParts * MAX_PART_BYTES;
  if (imageSizeBytes > maxImageBytes)
    throw new DiskliftError(
      'ImageTooLarge',
      `the image has ${formatBytes(imageSizeBytes)}; an S3 object of ${maxParts} parts has at most ${formatBytes(maxImageBytes)}`,
    );
  const neededBytes = Math.max(minPartBytes, alignUp(imageSizeBytes / maxParts, MIB));
  if (partSizeBytes !== undefined) {
    const isLegal = Number.isInteger(partSizeBytes) && partSizeBytes >= minPartBytes && partSizeBytes <= MAX_PART_BYTES;
    if (!isLegal || Math.ceil(imageSizeBytes / partSizeBytes) > maxParts)
      throw new DiskliftError(
        'InvalidRequest',
        `partSize ${partSizeBytes} does not work for an image of ${formatBytes(imageSizeBytes)} in at most ${maxParts} parts: ` +
          `the smallest that does is ${neededBytes} (${formatBytes(neededBytes)}), the largest ${formatBytes(MAX_PART_BYTES)}`,
      );
  }
  const size = partSizeBytes ?? Math.max(DEFAULT_PART_BYTES, neededBytes);
  return { imageSizeBytes, partSizeBytes: size, count: Math.max(1, Math.ceil(imageSizeBytes / size)) };
}

/** In image order. */
export function* partsOf({ imageSizeBytes, partSizeBytes, count }: PartPlan): Generator<Part> {
  for (let number = 1; number <= count; number += 1) {
    const offset = (number - 1) * partSizeBytes;
    yield { number, offset, sizeBytes: Math.min(partSizeBytes, imageSizeBytes - offset) };
  }
}
