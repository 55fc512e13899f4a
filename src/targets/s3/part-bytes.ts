/** The bytes of one part, as often as they are wanted: to be hashed, and to be sent by one request or several. */

import { createHash } from 'node:crypto';
import type { VirtualImage } from '../../image/contract.ts';
import { loadMd5 } from '../../native/md5.ts';
import { type Pieces, updateInPieces } from './hash-pieces.ts';

export interface PartBytes extends Pieces {
  readonly sizeBytes: number;
  /** In order; nobody writes to a piece as long as somebody holds it. @throws as {@link VirtualImage.read} */
  pieces(signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Called when a request that carried them has failed: its connection may still have some of them to send. */
  onFailedTry(): void;
  /**
   * The MD5 in hex, computed once. Every read of the image's bytes hashes them; they are read again only if no read reached their end.
   * @throws as {@link pieces}
   */
  md5(signal: AbortSignal): Promise<string>;
}

export function bytesInMemory(bytes: Uint8Array, onFailedTry = () => {}): PartBytes {
  let md5: Promise<string> | undefined;
  return {
    sizeBytes: bytes.length,
    onFailedTry,
    async *pieces() {
      yield bytes;
    },
    md5(signal) {
      md5 ??= md5OfMemory(bytes, signal);
      return md5;
    },
  };
}

/** Runs outside the event loop where possible, because MD5 takes more than a millisecond for each MiB. */
async function md5OfMemory(bytes: Uint8Array, signal: AbortSignal): Promise<string> {
  const native = await loadMd5();
  if (native !== undefined) return native(bytes);
  const hash = createHash('md5');
  await updateInPieces(hash, bytes, { signal });
  return hash.digest('hex');
}

/** Reads them from the image each time. */
export function bytesOfImage(
  image: VirtualImage,
  { offset, sizeBytes }: { offset: number; sizeBytes: number },
  onFailedTry = () => {},
): PartBytes {
  let md5: string | undefined;

  async function* pieces(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const hash = createHash('md5');
    for await (const chunk of image.stream({ start: offset, end: offset + sizeBytes, signal })) {
      // The image reuses its buffers, while the connection may not have sent the piece yet.
      const piece = Buffer.from(chunk);
      if (md5 === undefined) await updateInPieces(hash, piece, { signal });
      yield piece;
    }
    md5 ??= hash.digest('hex');
  }

  return {
    sizeBytes,
    onFailedTry,
    pieces,
    async md5(signal) {
      if (md5 === undefined) for await (const _ of pieces(signal));
      return md5 ?? '';
    },
  };
}
