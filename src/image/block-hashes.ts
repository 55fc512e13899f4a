/** A hash of every MiB of a disk's data, kept from the scan for the second reading. Holes and zeros cost nothing. */

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { BLOCK_SIZE_BYTES } from './disk-blocks.ts';

export interface BlockHashes {
  /** Takes data of the disk; that of one block must come in order. */
  add(bytes: Uint8Array, offset: number): void;
  /**
   * Whether `pieces`, which together must be what was added of the block, are what they were. If so, the block counts as
   * compared from then on.
   */
  matches(block: number, pieces: Iterable<Uint8Array>): boolean;
  /** Whether the block was found the same before. */
  isCompared(block: number): boolean;
  /** Blocks that were found the same, each counted once. */
  readonly comparedCount: number;
  /** One text for all data that was added. */
  digest(): string;
}

/** Blocks whose hashes lie together: few arrays for a full disk, few hashes in vain for a scattered one. */
const BLOCKS_PER_GROUP = 256;

interface Group {
  /** Absent until one of the blocks holds data. */
  crcs?: Uint32Array;
  compared: Uint8Array;
}

export function createBlockHashes(): BlockHashes {
  const groups = new Map<number, Group>();
  let comparedCount = 0;

  function groupOf(block: number): Group {
    const index = Math.floor(block / BLOCKS_PER_GROUP);
    let group = groups.get(index);
    if (group === undefined) {
      group = { compared: new Uint8Array(BLOCKS_PER_GROUP) };
      groups.set(index, group);
    }
    return group;
  }

  return {
    add(bytes, offset) {
      for (let at = 0; at < bytes.length; ) {
        const block = Math.floor((offset + at) / BLOCK_SIZE_BYTES);
        const end = Math.min(bytes.length, (block + 1) * BLOCK_SIZE_BYTES - offset);
        const group = groupOf(block);
        group.crcs ??= new Uint32Array(BLOCKS_PER_GROUP);
        group.crcs[block % BLOCKS_PER_GROUP] = crc32(bytes.subarray(at, end), group.crcs[block % BLOCKS_PER_GROUP]);
        at = end;
      }
    },
    matches(block, pieces) {
      let crc = 0;
      for (const piece of pieces) crc = crc32(piece, crc);
      const { crcs, compared } = groupOf(block);
      const slot = block % BLOCKS_PER_GROUP;
      if (crc !== (crcs?.[slot] ?? 0)) return false;
      if (compared[slot] === 0) comparedCount += 1;
      compared[slot] = 1;
      return true;
    },
    isCompared: (block) => groupOf(block).compared[block % BLOCKS_PER_GROUP] === 1,
    get comparedCount() {
      return comparedCount;
    },
    digest() {
      const hash = createHash('sha256');
      for (const [index, { crcs }] of groups) if (crcs !== undefined) hash.update(`${index}:`).update(crcs);
      return hash.digest('hex');
    },
  };
}
