/** Reads the receipt of an image that is, or lies below, the base of another one. */

import { DiskliftError } from '../common/errors.ts';
import type { DestinationFiles } from '../targets/contract.ts';
import { receiptPlace } from './file-places.ts';
import { type ImageReceipt, MAX_RECEIPT_BYTES, parseReceipt } from './receipt.ts';

interface BaseReceipt extends ImageReceipt {
  image: ImageReceipt['image'] & { sha256: string };
}

/** @throws DiskliftError `BaseMissing` without a receipt, `ReceiptInvalid`; the codes of {@link DestinationFiles} */
export async function readReceipt(files: DestinationFiles, place: string, signal: AbortSignal): Promise<BaseReceipt> {
  const location = files.location(place);
  const found = await files.read(receiptPlace(place), MAX_RECEIPT_BYTES, signal);
  if (found === undefined) throw new DiskliftError('BaseMissing', `the base ${location}: its receipt is not there`);
  const parsed = parseReceipt(found.bytes);
  if ('problem' in parsed) throw new DiskliftError('ReceiptInvalid', `the receipt of the base ${location}: ${parsed.problem}`);
  const { image } = parsed.value;
  if (image.place !== place) throw invalidReceipt(location, 'is of an image at another place');
  if (image.sha256 === undefined) throw invalidReceipt(location, 'has no SHA-256');
  return { ...parsed.value, image: { ...image, sha256: image.sha256 } };
}

export function invalidReceipt(location: string, what: string): DiskliftError {
  return new DiskliftError('ReceiptInvalid', `the receipt of the base ${location} ${what}`);
}
