/** Hashes of parts, computed in pieces: a part is hashed in some ten milliseconds, which nobody else should have to wait. */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';

/** What takes bytes one piece after the other. */
export interface PieceHash {
  update(bytes: Uint8Array): unknown;
}

/** Bytes that come in pieces, in order. */
export interface Pieces {
  pieces(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface HashPieces {
  signal: AbortSignal;
  /** So many that one takes a millisecond at the most: several parts each make one in a turn of the event loop. */
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
export async function updateInPieces(hash: PieceHash, bytes: Uint8Array, { signal, pieceBytes = MIB / 2 }: HashPieces): Promise<void> {
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
