/** Looks at a base and at the images below it, without reading them: without one of them nothing can be restored. */

import { DiskliftError } from '../common/errors.ts';
import { MAX_CHAIN_LENGTH } from '../qcow2/constants.ts';
import type { DestinationFiles } from '../targets/contract.ts';
import type { BaseImage } from './contract.ts';
import { readReceipt } from './read-receipt.ts';
import type { BaseReference, ImageReceipt } from './receipt.ts';

export type ExpectedBase = Pick<BaseImage, 'place' | 'sizeBytes' | 'etag'>;

/** @throws DiskliftError `BaseMissing`, `BaseChanged`; the codes of {@link DestinationFiles} */
export async function confirmBase(files: DestinationFiles, base: ExpectedBase, signal: AbortSignal): Promise<void> {
  const location = files.location(base.place);
  const seen = await files.look(base.place, signal);
  if (seen === undefined) throw new DiskliftError('BaseMissing', `the base ${location} is not there`);
  if (seen.sizeBytes !== base.sizeBytes)
    throw new DiskliftError('BaseChanged', `the base ${location} has ${seen.sizeBytes} bytes, and its receipt says ${base.sizeBytes}`);
  // A server that had a tag and has none now has another file.
  if (base.etag !== undefined && seen.etag !== base.etag)
    throw new DiskliftError('BaseChanged', `the base ${location} has another entity tag than in its receipt`);
}

/**
 * @param below the base of the new image's base, from its receipt; absent where that is a full image
 * @throws DiskliftError `ChainTooLong`, `ReceiptInvalid`; the codes of {@link confirmBase}
 */
export async function confirmChain(files: DestinationFiles, below: BaseReference | undefined, signal: AbortSignal): Promise<void> {
  // The new image and its base are in the chain already.
  let length = 2;
  for (let next = below; next !== undefined; ) {
    length += 1;
    if (length > MAX_CHAIN_LENGTH)
      throw new DiskliftError('ChainTooLong', `the chain would have more than ${MAX_CHAIN_LENGTH} images; begin another one`);
    next = (await confirmLink(files, next, signal)).base;
  }
}

async function confirmLink(files: DestinationFiles, { place, sha256 }: BaseReference, signal: AbortSignal): Promise<ImageReceipt> {
  try {
    const receipt = await readReceipt(files, place, signal);
    if (receipt.image.sha256 !== sha256)
      throw new DiskliftError('BaseChanged', `the base ${files.location(place)}: its SHA-256 is another one than in the image above it`);
    await confirmBase(files, receipt.image, signal);
    return receipt;
  } catch (error) {
    // The place comes from a file of the destination, and not from the request.
    if (!(error instanceof DiskliftError) || error.code !== 'InvalidRequest') throw error;
    throw new DiskliftError('ReceiptInvalid', `a receipt of the chain names a place that cannot be used: ${error.message}`, error);
  }
}
