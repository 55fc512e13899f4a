/** Hashes the blocks of a disk from the data that a scan passes on, without another read. */

import type { DataRecorder } from '../contract.ts';
import type { BlockHashes } from './block-hashes.ts';
import { BLOCK_SIZE_BYTES } from './blocks-file.ts';
import { hashBlock } from './hash-block.ts';

/** Blocks of which nothing is added are zeros. */
export function createBlockRecorder(hashes: BlockHashes): DataRecorder {
  const buffer = Buffer.alloc(BLOCK_SIZE_BYTES);
  /** The block of which a part has been added; `buffer` has its bytes. */
  let openBlock: number | undefined;

  async function hashOpen(): Promise<void> {
    if (openBlock === undefined) return;
    hashes.set(openBlock, await hashBlock(buffer));
    openBlock = undefined;
    buffer.fill(0);
  }

  return {
    begin() {
      hashes.clear();
      openBlock = undefined;
      buffer.fill(0);
    },
    async add(bytes, offset) {
      for (let at = 0; at < bytes.length; ) {
        const block = Math.floor((offset + at) / BLOCK_SIZE_BYTES);
        const within = (offset + at) % BLOCK_SIZE_BYTES;
        const piece = bytes.subarray(at, at + BLOCK_SIZE_BYTES - within);
        at += piece.length;
        if (openBlock !== block) await hashOpen();
        if (piece.length === BLOCK_SIZE_BYTES) hashes.set(block, await hashBlock(piece));
        else {
          openBlock = block;
          buffer.set(piece, within);
        }
      }
    },
    finish: hashOpen,
  };
}
