/** The SHA-256 of an image, computed in image order as its bytes are read. */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { MIB } from '../common/bytes.ts';
import type { StreamRange, VirtualImage } from './contract.ts';

/** One update of the hash holds up the event loop for half a millisecond; several exports each make one in a turn of it. */
const LONGEST_UPDATE_BYTES = MIB / 2;

export interface DigestedImage {
  /** The same bytes; without `placedRuns`, since bytes that no one sees cannot be hashed. */
  image: VirtualImage;
  /**
   * Of the whole image, in hex. What was not read in order is read for it once more: a transfer that went on from where an
   * earlier one had stopped costs one more read of what lies in front.
   * @throws as {@link VirtualImage.read}
   */
  sha256(signal: AbortSignal): Promise<string>;
}

export function digestImage(image: VirtualImage): DigestedImage {
  const hash = createHash('sha256');
  let hashedBytes = 0;
  let result: string | undefined;
  /** One reader at a time extends the hash. What others read meanwhile is read once more when it is their bytes' turn. */
  let isTaken = false;

  /** Hashes what is new in the bytes from `offset` on; they reach up to what has been hashed, or begin before. */
  async function extend(bytes: Uint8Array, offset: number): Promise<void> {
    const first = hashedBytes - offset;
    for (let at = first; at < bytes.length; at = hashedBytes - offset) {
      // Between updates it is the turn of whatever else the process does.
      if (at > first) await nextTurn();
      const update = bytes.subarray(at, at + LONGEST_UPDATE_BYTES);
      hash.update(update);
      hashedBytes += update.length;
    }
  }

  async function hashUpTo(end: number, signal: AbortSignal): Promise<void> {
    let at = hashedBytes;
    if (at < end)
      for await (const chunk of image.stream({ start: at, end, signal })) {
        await extend(chunk, at);
        at += chunk.length;
      }
  }

  async function* stream(range: StreamRange): AsyncGenerator<Uint8Array> {
    const { start = 0, signal } = range;
    if (isTaken) return yield* image.stream(range);
    isTaken = true;
    try {
      await hashUpTo(start, signal);
      let at = start;
      for await (const chunk of image.stream(range)) {
        await extend(chunk, at);
        at += chunk.length;
        yield chunk;
      }
    } finally {
      isTaken = false;
    }
  }

  async function read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    if (isTaken) return image.read(buffer, offset, signal);
    isTaken = true;
    try {
      await hashUpTo(offset, signal);
      await image.read(buffer, offset, signal);
      await extend(buffer, offset);
    } finally {
      isTaken = false;
    }
  }

  return {
    image: {
      sizeBytes: image.sizeBytes,
      virtualSizeBytes: image.virtualSizeBytes,
      clusterSizeBytes: image.clusterSizeBytes,
      get fingerprint() {
        return image.fingerprint;
      },
      read,
      stream,
    },
    async sha256(signal) {
      await hashUpTo(image.sizeBytes, signal);
      result ??= hash.digest('hex');
      return result;
    },
  };
}
