/** Where a receiver puts an image. */

import { createHash } from 'node:crypto';
import { DiskliftError } from '../../common/errors.ts';
import type { Confirmation, Hello } from './messages.ts';

export interface ImageOutput {
  /**
   * Gets ready for an image; one at a time. Without `hello` it is one that nothing is known of.
   * @returns how many bytes of it are there from an earlier try
   * @throws DiskliftError `DestinationRejected` when it must not be written
   */
  begin(hello?: Hello): Promise<number>;
  /** Takes the next bytes; they may be used again when the promise has resolved. @throws DiskliftError `DestinationRejected` */
  write(bytes: Uint8Array): Promise<void>;
  /** To be called when the rest does not come. Keeps what there is for another try. @throws DiskliftError when there cannot be one */
  suspend(): Promise<void>;
  /** Resolves when the image is in its place and survives a loss of power. @throws DiskliftError `DestinationRejected` */
  finish(): Promise<Required<Confirmation>>;
  /** Removes the image that was finished last: it is not what was sent. @throws DiskliftError when it cannot be */
  discard(): Promise<void>;
}

/** A pipe: what has been written cannot be taken back. @param write resolves when all bytes are taken */
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
      throw new DiskliftError('ChecksumMismatch', 'the output holds something else than was sent');
    },
  };
}
