/** The blocks of a disk that were read last: neighbouring reads of an image share the block that lies across their border. */

import { abortable } from '../common/abortable.ts';
import { allocateIoBuffer } from '../common/io-buffer.ts';
import { BLOCK_SIZE_BYTES } from './disk-blocks.ts';

export interface BlockCache {
  /** Calls `take` with the block's bytes, valid during that call only. @throws what `load` throws, `Cancelled` at once */
  use(block: number, signal: AbortSignal, take: (bytes: Uint8Array) => void): Promise<void>;
}

interface Entry {
  buffer: Buffer;
  loaded: Promise<void>;
  /** Of whoever asked first. When it is aborted the others begin anew. */
  signal: AbortSignal;
  userCount: number;
  /** The load has succeeded: nothing writes to `buffer` any more. */
  isLoaded: boolean;
}

/** Enough for what a stream reads ahead. More blocks are only kept while that many are in use. */
const KEPT_BLOCKS = 8;

export function createBlockCache(load: (block: number, buffer: Uint8Array, signal: AbortSignal) => Promise<void>): BlockCache {
  /** Those used last come last. */
  const entries = new Map<number, Entry>();

  /** The buffer of the block that was not used for longest, or a new one; and lets go of what is too much. */
  function takeBuffer(): Buffer {
    let buffer: Buffer | undefined;
    for (const [block, entry] of entries) {
      if (entries.size < KEPT_BLOCKS) break;
      if (entry.userCount > 0 || !entry.isLoaded) continue;
      entries.delete(block);
      buffer = entry.buffer;
    }
    return buffer ?? allocateIoBuffer(BLOCK_SIZE_BYTES);
  }

  function begin(block: number, signal: AbortSignal): Entry {
    const buffer = takeBuffer();
    const entry: Entry = { buffer, loaded: load(block, buffer, signal), signal, userCount: 0, isLoaded: false };
    entry.loaded.then(
      () => {
        entry.isLoaded = true;
      },
      // The kernel may still write to the buffer of an abandoned read, so the buffer is not used again.
      () => {
        if (entries.get(block) === entry) entries.delete(block);
      },
    );
    return entry;
  }

  return {
    async use(block, signal, take) {
      for (;;) {
        const entry = entries.get(block) ?? begin(block, signal);
        entries.delete(block);
        entries.set(block, entry);
        entry.userCount += 1;
        try {
          await abortable(entry.loaded, signal);
          return take(entry.buffer);
        } catch (error) {
          if (signal.aborted || !entry.signal.aborted) throw error;
        } finally {
          entry.userCount -= 1;
        }
      }
    },
  };
}
