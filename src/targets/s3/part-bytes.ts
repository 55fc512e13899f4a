/** The bytes of one part, read as often as they are needed: to be hashed, and to be sent by one request or several. */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';
import type { VirtualImage } from '../../image/contract.ts';
import { loadMd5 } from '../../native/md5.ts';

export interface PartBytes extends Pieces {
  readonly sizeBytes: number;
  /** The bytes in order. A piece never changes after it was given out. @throws as {@link VirtualImage.read} */
  pieces(signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Called when a request that carried the bytes has failed. Its connection may still send some of them. */
  onFailedTry(): void;
  /**
   * The MD5 in hex, computed once. Every read of the image's bytes hashes them; they are read again only if no read
   * reached their end.
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

/** Metadata is computed on the event loop, and the digest hashes each piece before the next read. */
const PIECE_BYTES = 4 * MIB;

/** Fills `bytes` from `offset` on, in image order. @throws as {@link VirtualImage.read} */
export async function readPart(image: VirtualImage, bytes: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) await image.read(bytes.subarray(at, at + PIECE_BYTES), offset + at, signal);
}

/** A hash that accepts its bytes piece by piece. */
export interface PieceHash {
  update(bytes: Uint8Array): unknown;
}

/** Bytes that come in pieces, in order. */
export interface Pieces {
  pieces(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface HashPieces {
  signal: AbortSignal;
  /**
   * Size of a piece. One piece takes a millisecond at most, because several parts each hash one piece in a turn of the
   * event loop.
   */
  pieceBytes?: number;
}

/**
 * @returns `hash`, updated with all of `bytes`
 * @throws DiskliftError `Cancelled`, or as {@link Pieces.pieces}
 */
export async function hashPieces<T extends PieceHash>(hash: T, bytes: Pieces, how: HashPieces): Promise<T> {
  for await (const piece of bytes.pieces(how.signal)) await updateInPieces(hash, piece, how);
  return hash;
}

/** @throws DiskliftError `Cancelled` */
async function updateInPieces(hash: PieceHash, bytes: Uint8Array, { signal, pieceBytes = MIB / 2 }: HashPieces): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    throwIfAborted(signal);
    hash.update(bytes.subarray(at, at + pieceBytes));
    await nextTurn();
  }
}

/** In hex. */
export async function sha256Of(bytes: Pieces, signal: AbortSignal): Promise<string> {
  return (await hashPieces(createHash('sha256'), bytes, { signal })).digest('hex');
}
