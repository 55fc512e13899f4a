/**
 * Limits of a peer's answers. A server may send interim answers without end, and Node and the SDK of S3 bound neither
 * them nor a body.
 */

import type http from 'node:http';
import { DiskliftError } from '../common/errors.ts';

/** A server that reports every 20 s that it is at work (102) may do so for two days. */
const MAX_INTERIM_ANSWERS = 10_000;

/** @param where the server in a form that may be shown */
export function limitInterimAnswers(request: http.ClientRequest, where: string): void {
  let count = 0;
  request.on('information', () => {
    count += 1;
    if (count > MAX_INTERIM_ANSWERS)
      request.destroy(
        new DiskliftError(
          'DestinationRejected',
          `${where}: sent more than ${MAX_INTERIM_ANSWERS} interim answers (1xx) to one request, and no final one`,
        ),
      );
  });
}

/** Share that does not depend on the size: queues, antivirus scanners, the start of a conversion. */
const BASE_MS = 3_600_000;

/** Lower bound for a receiver that writes the whole disk again, as CDI does with qcow2. */
const MIN_WRITE_BYTES_PER_MS = 10_000;

/** Share of a read-back that does not depend on the size. */
const READ_BACK_BASE_MS = 120_000;

/** Lower bound for a server that sends stored bytes back: 100 kB a second. */
const MIN_READ_BACK_BYTES_PER_MS = 100;

/**
 * Limit of the answer after the whole image was sent. Grows with the disk and not with the image, because a receiver
 * that converts to raw writes the holes as well.
 * @returns milliseconds; one hour, and 100 s more for each GB of the disk
 */
export function answerLimitMs({ virtualSizeBytes }: { virtualSizeBytes: number }): number {
  return BASE_MS + Math.ceil(virtualSizeBytes / MIN_WRITE_BYTES_PER_MS);
}

/**
 * Limit of reading `sizeBytes` back in all, however steadily they come.
 * @returns milliseconds; two minutes, and 10 s more for each MB
 */
export function readBackLimitMs(sizeBytes: number): number {
  return READ_BACK_BASE_MS + Math.ceil(sizeBytes / MIN_READ_BACK_BYTES_PER_MS);
}
