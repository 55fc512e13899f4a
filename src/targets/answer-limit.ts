/** Limit of a peer's answer after the whole image was sent. */

import type { VirtualImage } from '../image/contract.ts';

/** Share that does not depend on the size: queues, antivirus scanners, the start of a conversion. */
const BASE_MS = 3_600_000;

/** Lower bound for a receiver that writes the whole disk again, as CDI does with qcow2. */
const SLOWEST_WRITE_BYTES_PER_MS = 10_000;

/**
 * Grows with the disk and not with the image, because a receiver that converts to raw writes the holes as well.
 * @returns milliseconds; one hour, and 100 s more for each GB of the disk
 */
export function answerLimitMs({ virtualSizeBytes }: Pick<VirtualImage, 'virtualSizeBytes'>): number {
  return BASE_MS + Math.ceil(virtualSizeBytes / SLOWEST_WRITE_BYTES_PER_MS);
}
