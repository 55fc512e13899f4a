/** Compares a reading of a disk with the block hashes of a base, or with those of an earlier reading. */

import { DiskliftError } from '../../../common/errors.ts';
import type { ChangedBlocks, ChangedExtent } from '../contract.ts';
import type { BaseBlocks, HashWindow } from './base-blocks.ts';
import { areEqual, type BlockHashes, ZEROS } from './block-hashes.ts';
import { BLOCK_SIZE_BYTES, HASH_BYTES } from './blocks-file.ts';
import { type HashedBlocks, hashDisk } from './hash-disk.ts';

/**
 * @param runs all blocks of the disk, in order
 * @throws DiskliftError as the windows of `base`, also after the last extent; the errors of `runs`
 */
export async function* compareWithBase(
  runs: AsyncIterable<HashedBlocks>,
  { base, sizeBytes }: Comparison,
  signal: AbortSignal,
): AsyncGenerator<ChangedExtent> {
  const cursor = createCursor(base, signal);
  try {
    for await (const run of runs)
      for (let block = run.firstBlock; block < run.endBlock; ) {
        const window = await cursor.moveTo(block);
        const endBlock = Math.min(run.endBlock, window?.endBlock ?? run.endBlock);
        yield* comparedExtents({ ...run, firstBlock: block, endBlock }, window, sizeBytes);
        block = endBlock;
      }
    await cursor.finish();
  } finally {
    await cursor.close();
  }
}

interface Comparison {
  base: BaseBlocks;
  /** Size of the disk as it is now. */
  sizeBytes: number;
}

interface Cursor {
  /** @returns the window with the block, which may not be in front of an earlier one; undefined behind the base */
  moveTo(block: number): Promise<HashWindow | undefined>;
  /** Reads the rest, so that all bytes are compared with the checksum. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

function createCursor({ blockCount, windows: open }: BaseBlocks, signal: AbortSignal): Cursor {
  const windows = open(signal);
  let window: HashWindow | undefined;
  return {
    async moveTo(block) {
      if (block >= blockCount) return undefined;
      while (window === undefined || window.endBlock <= block) {
        const next = await windows.next();
        if (next.done === true) throw new RangeError(`no window has block ${block}`);
        window = next.value;
      }
      return window;
    },
    async finish() {
      while ((await windows.next()).done !== true);
    },
    close: async () => void (await windows.return(undefined)),
  };
}

/** Neighbours that are alike are one extent. Behind the end of the base, readers see zeros. */
function* comparedExtents(
  { firstBlock, endBlock, hash }: HashedBlocks,
  window: HashWindow | undefined,
  sizeBytes: number,
): Generator<ChangedExtent> {
  const kind = hash === undefined ? 'zeros' : 'data';
  const isChangedAt = (block: number) => {
    const at = (block - (window?.firstBlock ?? block)) * HASH_BYTES;
    return !areEqual(hash ?? ZEROS, window === undefined ? ZEROS : window.bytes.subarray(at, at + HASH_BYTES));
  };
  for (let block = firstBlock; block < endBlock; ) {
    const isChanged = isChangedAt(block);
    let end = block + 1;
    while (end < endBlock && window !== undefined && isChangedAt(end) === isChanged) end += 1;
    if (window === undefined) end = endBlock;
    const offset = block * BLOCK_SIZE_BYTES;
    yield { offset, length: Math.min(end * BLOCK_SIZE_BYTES, sizeBytes) - offset, kind, isChanged };
    block = end;
  }
}

/** @throws DiskliftError `SourceChanged` that names the MiB that differs from the first reading */
export async function compareAgain(
  hashes: BlockHashes,
  ...[again, signal, onProgress]: Parameters<NonNullable<ChangedBlocks['confirm']>>
): Promise<void> {
  for await (const { firstBlock, endBlock, hash } of hashDisk(again, signal)) {
    const changedBlock = hash === undefined ? hashes.skipZeros(firstBlock, endBlock) : firstBlock;
    if (hash === undefined ? changedBlock < endBlock : !areEqual(hash, hashes.get(firstBlock)))
      throw new DiskliftError(
        'SourceChanged',
        `${again.name}: changed while it was read, in the MiB at offset ${changedBlock * BLOCK_SIZE_BYTES}; stop its writer and try again`,
      );
    onProgress?.();
  }
}
