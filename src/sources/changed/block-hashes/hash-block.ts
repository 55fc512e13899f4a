/** The hash of one block, computed in the event loop (docs/decisions/0047-block-hashes.md). */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BLOCK_SIZE_BYTES } from './blocks-file.ts';

/** One update blocks the event loop for a third of a millisecond. Other work has its turn between two. */
const UPDATE_BYTES = BLOCK_SIZE_BYTES / 2;

const zeros = Buffer.alloc(BLOCK_SIZE_BYTES);

/**
 * @param block a whole block; the last one of a disk is filled up with zeros. It must not change before the end
 * @returns the SHA-256; undefined for a block of zeros
 */
export async function hashBlock(block: Uint8Array): Promise<Uint8Array | undefined> {
  if (block.length !== BLOCK_SIZE_BYTES) throw new RangeError(`a block of ${block.length} bytes`);
  if (block[0] === 0 && zeros.equals(block)) return undefined;
  const hash = createHash('sha256').update(block.subarray(0, UPDATE_BYTES));
  await nextTurn();
  return hash.update(block.subarray(UPDATE_BYTES)).digest();
}
