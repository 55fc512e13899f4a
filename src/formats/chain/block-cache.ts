/**
 * Blocks of the files of a chain, within one budget of bytes: neighbours are read at once, and before they are needed.
 */

import { abortable } from '../../common/abortable.ts';
import { KIB, MIB } from '../../common/bytes.ts';
import type { RangedFile } from '../../sources/remote/contract.ts';

/** At 5 ms a request and eight requests at a time, blocks of this size keep a line of 800 MB a second busy. */
const BLOCK_SIZE_BYTES = 512 * KIB;

const CACHE_BYTES = 64 * MIB;
const MAX_BLOCK_COUNT = CACHE_BYTES / BLOCK_SIZE_BYTES;

export interface BlockCache {
  /** Fills the whole of `buffer`. @throws DiskliftError as reading the file */
  read(file: RangedFile, buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /** Begins to read the blocks of a range. */
  readAhead(file: RangedFile, offset: number, length: number): void;
}

/** @param closed ends all reads */
export function createBlockCache(closed: AbortSignal): BlockCache {
  const files = new Map<RangedFile, Map<number, Promise<Uint8Array>>>();
  /** In the order of their last use. */
  const used = new Map<Promise<Uint8Array>, () => void>();

  function load(file: RangedFile, index: number): Promise<Uint8Array> {
    let blocks = files.get(file);
    if (blocks === undefined) {
      blocks = new Map();
      files.set(file, blocks);
    }
    const ofFile = blocks;
    const known = ofFile.get(index);
    const block = known ?? readBlock(file, index);
    const forget = used.get(block) ?? (() => void ofFile.delete(index));
    used.delete(block);
    used.set(block, forget);
    if (known !== undefined) return known;
    ofFile.set(index, block);
    // A failure is not kept, and counts only for a caller that waits.
    block.catch(() => drop(block));
    for (const oldest of used.keys()) {
      if (used.size <= MAX_BLOCK_COUNT) break;
      drop(oldest);
    }
    return block;
  }

  function drop(block: Promise<Uint8Array>): void {
    used.get(block)?.();
    used.delete(block);
  }

  async function readBlock(file: RangedFile, index: number): Promise<Uint8Array> {
    const offset = index * BLOCK_SIZE_BYTES;
    const bytes = Buffer.allocUnsafeSlow(Math.min(BLOCK_SIZE_BYTES, file.sizeBytes - offset));
    await file.read(bytes, offset, closed);
    return bytes;
  }

  async function copyBlock(file: RangedFile, index: number, { buffer, offset }: { buffer: Uint8Array; offset: number }): Promise<void> {
    const bytes = await load(file, index);
    const blockOffset = index * BLOCK_SIZE_BYTES;
    const from = Math.max(offset, blockOffset);
    const to = Math.min(offset + buffer.length, blockOffset + bytes.length);
    buffer.set(bytes.subarray(from - blockOffset, to - blockOffset), from - offset);
  }

  return {
    async read(file, buffer, offset, signal) {
      // The next block is asked for while the first one is under way.
      const copies = blocksOf(offset, buffer.length).map((index) => copyBlock(file, index, { buffer, offset }));
      await abortable(Promise.all(copies), signal);
    },
    readAhead(file, offset, length) {
      for (const index of blocksOf(offset, Math.min(length, file.sizeBytes - offset))) load(file, index);
    },
  };
}

function blocksOf(offset: number, length: number): number[] {
  const first = Math.floor(offset / BLOCK_SIZE_BYTES);
  const end = Math.ceil((offset + length) / BLOCK_SIZE_BYTES);
  return Array.from({ length: Math.max(0, end - first) }, (_, index) => first + index);
}
