/** The SHA-256 of a whole file that is read by ranges. */

import { createHash } from 'node:crypto';
import { allocateIoBuffer } from '../../common/buffers.ts';
import { MIB } from '../../common/bytes.ts';
import type { RangedFile } from './contract.ts';

const PIECE_BYTES = 2 * MIB;

/** Pieces in memory at a time. */
const PIECES_IN_FLIGHT = 6;

/** @returns in hex @throws DiskliftError as reading the file */
export async function hashFile(file: RangedFile, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const ahead: Promise<Buffer>[] = [];
  const idle: Buffer[] = [];
  let next = 0;
  const readNext = () => {
    if (next >= file.sizeBytes) return;
    const buffer = (idle.pop() ?? allocateIoBuffer(PIECE_BYTES)).subarray(0, Math.min(PIECE_BYTES, file.sizeBytes - next));
    const piece = file.read(buffer, next, signal).then(() => buffer);
    // It is awaited later; until then a failure must not count as unhandled.
    piece.catch(() => {});
    ahead.push(piece);
    next += buffer.length;
  };
  for (let count = 0; count < PIECES_IN_FLIGHT; count += 1) readNext();
  for (let piece = ahead.shift(); piece !== undefined; piece = ahead.shift()) {
    const bytes = await piece;
    hash.update(bytes);
    if (bytes.length === PIECE_BYTES) idle.push(bytes);
    readNext();
  }
  return hash.digest('hex');
}
