/** Hashes of parts, computed in pieces: a part is hashed in some ten milliseconds, which nobody else should have to wait. */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';
import type { PartBytes } from './part-bytes.ts';

/** What takes bytes one piece after the other. */
interface PieceHash {
  update(bytes: Uint8Array): unknown;
}

export interface HashPieces {
  signal: AbortSignal;
  /** So many that one takes a millisecond at the most: several parts each make one in a turn of the event loop. */
  pieceBytes?: number;
}

/**
 * @returns `hash`, with all of `bytes` in it
 * @throws DiskliftError `Cancelled`, or as {@link PartBytes.pieces}
 */
export async function hashPieces<T extends PieceHash>(hash: T, bytes: PartBytes, { signal, pieceBytes = MIB / 2 }: HashPieces): Promise<T> {
  for await (const piece of bytes.pieces(signal))
    for (let at = 0; at < piece.length; at += pieceBytes) {
      throwIfAborted(signal);
      hash.update(piece.subarray(at, at + pieceBytes));
      await nextTurn();
    }
  return hash;
}

/** In hex. */
export async function digestOf(algorithm: 'md5' | 'sha256', bytes: PartBytes, signal: AbortSignal): Promise<string> {
  return (await hashPieces(createHash(algorithm), bytes, { signal })).digest('hex');
}
