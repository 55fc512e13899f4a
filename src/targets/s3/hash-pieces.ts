/** Hashes of parts, computed in pieces: a part is hashed in some ten milliseconds, which nobody else should have to wait. */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';

/** What takes bytes one piece after the other. */
export interface PieceHash {
  update(bytes: Uint8Array): unknown;
}

/**
 * @param pieceBytes so many that one takes about a millisecond
 * @returns `hash`, with all of `bytes` in it
 * @throws DiskliftError `Cancelled`
 */
export async function hashPieces<T extends PieceHash>(hash: T, bytes: Uint8Array, signal: AbortSignal, pieceBytes = MIB): Promise<T> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    if (at > 0) await nextTurn();
    throwIfAborted(signal);
    hash.update(bytes.subarray(at, at + pieceBytes));
  }
  return hash;
}

/** In hex. */
export async function digestOf(algorithm: 'md5' | 'sha256', bytes: Uint8Array, signal: AbortSignal): Promise<string> {
  return (await hashPieces(createHash(algorithm), bytes, signal)).digest('hex');
}
