/** The bytes of one part, as often as they are wanted: to be hashed, and to be sent by one request or several. */

import { MIB } from '../../common/bytes.ts';
import type { VirtualImage } from '../../image/contract.ts';

export interface PartBytes {
  readonly sizeBytes: number;
  /** In order; nobody writes to a piece as long as somebody holds it. @throws as {@link VirtualImage.read} */
  pieces(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** TLS encrypts what it is given in one go, into memory of its own. */
const PIECE_BYTES = MIB;

export function bytesInMemory(bytes: Uint8Array): PartBytes {
  return {
    sizeBytes: bytes.length,
    async *pieces() {
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
    },
  };
}

/** Reads them from the image each time. */
export function bytesOfImage(image: VirtualImage, { offset, sizeBytes }: { offset: number; sizeBytes: number }): PartBytes {
  return {
    sizeBytes,
    async *pieces(signal) {
      // The image uses its buffers again, while a connection may not have taken the piece yet.
      for await (const chunk of image.stream({ start: offset, end: offset + sizeBytes, signal })) yield Buffer.from(chunk);
    },
  };
}
