/** How long a peer may take to answer when it has the whole image. */

import type { VirtualImage } from '../image/contract.ts';

/** For what does not depend on the size: queues, antivirus scanners, a conversion that has to start. */
const BASE_MS = 3_600_000;

/** A receiver that writes the disk out again, as CDI does with qcow2, is not slower than this. */
const SLOWEST_WRITE_BYTES_PER_MS = 10_000;

/**
 * Grows with the disk and not with the image, because a receiver that converts to raw writes the holes as well.
 * @returns milliseconds; one hour, and 100 s more for each GB of the disk
 */
export function answerLimitMs({ virtualSizeBytes }: Pick<VirtualImage, 'virtualSizeBytes'>): number {
  return BASE_MS + Math.ceil(virtualSizeBytes / SLOWEST_WRITE_BYTES_PER_MS);
}
