/**
 * Outputs of a receiver. The receiver calls `begin`, then `write` for each piece, then `finish`; or `suspend` when the
 * rest does not come. `discard` may follow `finish`.
 */

import { createHash } from 'node:crypto';
import { DiskliftError } from '../../common/errors.ts';
import type { Confirmation, Hello } from './messages.ts';

export interface ImageOutput {
  /**
   * Prepares for an image, one at a time. Without `hello` nothing is known of the image.
   * @returns the number of its bytes that an earlier try left
   * @throws DiskliftError `DestinationRejected` when the image must not be written
   */
  begin(hello?: Hello): Promise<number>;
  /**
   * Writes the next bytes. They may be reused when the promise has resolved.
   * @throws DiskliftError `DestinationRejected`
   */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Keeps the bytes for another try. Call this when the rest does not come.
   * @throws DiskliftError when another try is impossible
   */
  suspend(): Promise<void>;
  /**
   * Resolves when the image is in its place and survives a loss of power.
   * @throws DiskliftError `DestinationRejected`
   */
  finish(): Promise<Required<Confirmation>>;
  /**
   * Removes the image that was finished last, because it differs from what was sent.
   * @throws DiskliftError when that fails
   */
  discard(): Promise<void>;
}

/** An output that cannot be undone, such as a pipe. @param write resolves when all bytes are taken */
export function createStreamOutput(write: (bytes: Uint8Array) => Promise<void>): ImageOutput {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  return {
    begin: async () => {
      if (sizeBytes > 0) throw new DiskliftError('DestinationRejected', 'there is an image in the output already');
      return 0;
    },
    async write(bytes) {
      sizeBytes += bytes.length;
      const written = write(bytes);
      hash.update(bytes);
      await written;
    },
    async suspend() {
      if (sizeBytes > 0)
        throw new DiskliftError('DestinationUnreachable', `the output holds only the first ${sizeBytes} bytes of an image`);
    },
    finish: async () => ({ sizeBytes, sha256: hash.digest('hex') }),
    async discard() {
      throw new DiskliftError('ChecksumMismatch', 'the output differs from what was sent');
    },
  };
}
