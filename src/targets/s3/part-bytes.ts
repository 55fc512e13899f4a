/** The bytes of one part, as often as they are wanted: to be hashed, and to be sent by one request or several. */

import type { VirtualImage } from '../../image/contract.ts';

export interface PartBytes {
  readonly sizeBytes: number;
  /** In order; nobody writes to a piece as long as somebody holds it. @throws as {@link VirtualImage.read} */
  pieces(signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Called when a request that carried them has failed: its connection may still have some of them to send. */
  onFailedTry(): void;
}

export function bytesInMemory(bytes: Uint8Array, onFailedTry = () => {}): PartBytes {
  return {
    sizeBytes: bytes.length,
    onFailedTry,
    async *pieces() {
      yield bytes;
    },
  };
}

/** Reads them from the image each time. */
export function bytesOfImage(
  image: VirtualImage,
  { offset, sizeBytes }: { offset: number; sizeBytes: number },
  onFailedTry = () => {},
): PartBytes {
  return {
    sizeBytes,
    onFailedTry,
    async *pieces(signal) {
      // The image uses its buffers again, while a connection may not have taken the piece yet.
      for await (const chunk of image.stream({ start: offset, end: offset + sizeBytes, signal })) yield Buffer.from(chunk);
    },
  };
}
