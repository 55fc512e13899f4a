/** The SHA-256 of an image, computed in image order as its bytes are read. */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { MIB } from '../common/bytes.ts';
import type { StreamRange, VirtualImage } from './contract.ts';

/** One update blocks the event loop for half a millisecond, and each of several exports makes one in a turn of it. */
const MAX_UPDATE_BYTES = MIB / 2;

export interface DigestedImage {
  /** Has the same bytes, but no `fileExtents`: bytes that the kernel moves cannot be hashed. */
  image: VirtualImage;
  /**
   * SHA-256 of the whole image, in hex. Reads once more the bytes that were not read in order. A resumed transfer thus
   * costs one more read of the bytes in front of it.
   * @throws as {@link VirtualImage.read}
   */
  sha256(signal: AbortSignal): Promise<string>;
}

export function digestImage(image: VirtualImage): DigestedImage {
  const hash = createHash('sha256');
  let hashedBytes = 0;
  let result: string | undefined;
  /** One reader at a time extends the hash. Bytes of other readers are read once more when the hash reaches them. */
  let isTaken = false;

  /** Hashes the new bytes of `bytes`, which begin at or before the end of the hashed bytes. */
  async function extend(bytes: Uint8Array, offset: number): Promise<void> {
    const first = hashedBytes - offset;
    for (let at = first; at < bytes.length; at = hashedBytes - offset) {
      // Other work of the process has its turn between updates.
      if (at > first) await nextTurn();
      const update = bytes.subarray(at, at + MAX_UPDATE_BYTES);
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
