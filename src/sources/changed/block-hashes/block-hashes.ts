/** The hashes of a disk's blocks in memory: 32 bytes for each block with data, and nothing for zeros. */

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { encodeHeader, HASH_BYTES } from './blocks-file.ts';

/** Blocks whose hashes share an array. An array of zeros is not kept. */
const BLOCKS_PER_GROUP = 256;

/** Groups that are hashed or written before other work of the process has its turn: 256 KiB. */
const GROUPS_IN_A_ROW = 32;

const NO_HASHES = new Uint8Array(BLOCKS_PER_GROUP * HASH_BYTES);

/** The entry of a block of zeros. */
export const ZEROS = NO_HASHES.subarray(0, HASH_BYTES);

export interface BlockHashes {
  /** @param hash undefined for a block of zeros */
  set(block: number, hash: Uint8Array | undefined): void;
  /** @returns {@link ZEROS} for a block of zeros, also where nothing was set */
  get(block: number): Uint8Array;
  /** @returns the first block from `first` up to `end` that is not zeros; `end` where all are */
  skipZeros(first: number, end: number): number;
  clear(): void;
  /** The bytes of the file of block hashes. A chunk must not be changed. */
  file(diskSizeBytes: number, blockCount: number): AsyncGenerator<Uint8Array>;
}

export function createBlockHashes(): BlockHashes {
  const groups = new Map<number, Uint8Array>();

  function* chunksOf(blockCount: number): Generator<Uint8Array> {
    for (let first = 0; first < blockCount; first += BLOCKS_PER_GROUP) {
      const group = groups.get(first / BLOCKS_PER_GROUP) ?? NO_HASHES;
      yield group.subarray(0, (blockCount - first) * HASH_BYTES);
    }
  }

  function get(block: number): Uint8Array {
    const at = (block % BLOCKS_PER_GROUP) * HASH_BYTES;
    return groups.get(Math.floor(block / BLOCKS_PER_GROUP))?.subarray(at, at + HASH_BYTES) ?? ZEROS;
  }

  return {
    set(block, hash) {
      const index = Math.floor(block / BLOCKS_PER_GROUP);
      let group = groups.get(index);
      if (group === undefined) {
        if (hash === undefined) return;
        group = new Uint8Array(BLOCKS_PER_GROUP * HASH_BYTES);
        groups.set(index, group);
      }
      group.set(hash ?? ZEROS, (block % BLOCKS_PER_GROUP) * HASH_BYTES);
    },
    get,
    skipZeros(first, end) {
      for (let block = first; block < end; ) {
        const groupEnd = (Math.floor(block / BLOCKS_PER_GROUP) + 1) * BLOCKS_PER_GROUP;
        if (!groups.has(Math.floor(block / BLOCKS_PER_GROUP))) block = groupEnd;
        else if (isZeros(get(block))) block += 1;
        else return block;
      }
      return end;
    },
    clear: () => groups.clear(),
    async *file(diskSizeBytes, blockCount) {
      const digest = createHash('sha256');
      const header = encodeHeader(diskSizeBytes);
      digest.update(header);
      yield header;
      let chunkCount = 0;
      for (const chunk of chunksOf(blockCount)) {
        digest.update(chunk);
        yield chunk;
        chunkCount += 1;
        if (chunkCount % GROUPS_IN_A_ROW === 0) await nextTurn();
      }
      yield digest.digest();
    },
  };
}

function isZeros(hash: Uint8Array): boolean {
  return areEqual(hash, ZEROS);
}

/** @param b has at least {@link HASH_BYTES} */
export function areEqual(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < HASH_BYTES; at += 1) if (a[at] !== b[at]) return false;
  return true;
}
