/** The SHA-256 of an image, computed in image order as its bytes are streamed. */

import { createHash } from 'node:crypto';
import { MIB } from '../common/bytes.ts';
import type { StreamRange, VirtualImage } from './contract.ts';

/** One update of the hash holds up the event loop for about a millisecond. */
const LONGEST_UPDATE_BYTES = 2 * MIB;

export interface DigestedImage {
  /** The same bytes; without `direct`, since bytes that no one sees cannot be hashed. */
  image: VirtualImage;
  /**
   * Of the whole image, in hex. What was not streamed, in order and once, is read for it: a transfer that went on from
   * where an earlier one had stopped costs one more read of what lies in front.
   * @throws as {@link VirtualImage.read}
   */
  sha256(signal: AbortSignal): Promise<string>;
}

export function digestImage(image: VirtualImage): DigestedImage {
  const hash = createHash('sha256');
  let hashedBytes = 0;
  let result: string | undefined;

  function update(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; at += LONGEST_UPDATE_BYTES) hash.update(chunk.subarray(at, at + LONGEST_UPDATE_BYTES));
    hashedBytes += chunk.length;
  }

  async function hashUpTo(end: number, signal: AbortSignal): Promise<void> {
    if (hashedBytes < end) for await (const chunk of image.stream({ start: hashedBytes, end, signal })) update(chunk);
  }

  async function* stream(range: StreamRange): AsyncGenerator<Uint8Array> {
    let at = range.start ?? 0;
    await hashUpTo(at, range.signal);
    for await (const chunk of image.stream(range)) {
      // Streamed for a second time: the hash has these bytes already, or some of them.
      if (at + chunk.length > hashedBytes) update(chunk.subarray(hashedBytes - at));
      at += chunk.length;
      yield chunk;
    }
  }

  return {
    image: {
      sizeBytes: image.sizeBytes,
      get fingerprint() {
        return image.fingerprint;
      },
      read: (buffer, offset, signal) => image.read(buffer, offset, signal),
      stream,
    },
    async sha256(signal) {
      await hashUpTo(image.sizeBytes, signal);
      result ??= hash.digest('hex');
      return result;
    },
  };
}
