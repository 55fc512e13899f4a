/** One fact for the identity of a source: which bytes its map calls changed. */

import type { ChangedExtent } from './contract.ts';

/** Number of borders that are hashed at a time. */
const BATCH = 4096;

/**
 * @returns SHA-256, in hex, of the offsets at which changed and unchanged bytes meet. Extents that a server divides in
 * another way give the same digest, and so do other zeros
 */
export async function digestOfChanges(extents: AsyncIterable<ChangedExtent>): Promise<string> {
  // Loaded when it is needed: most commands start sooner without it.
  const hash = process.getBuiltinModule('node:crypto').createHash('sha256');
  const batch = Buffer.alloc(BATCH * 8);
  let used = 0;
  let wasChanged = false;
  for await (const { offset, isChanged } of extents) {
    if (isChanged === wasChanged) continue;
    wasChanged = isChanged;
    used = batch.writeDoubleBE(offset, used);
    if (used < batch.length) continue;
    hash.update(batch);
    used = 0;
  }
  return hash.update(batch.subarray(0, used)).digest('hex');
}
