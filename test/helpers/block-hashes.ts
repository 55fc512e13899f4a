/** Files of block hashes for tests. */

import { once } from 'node:events';
import { systemClock } from '../../src/common/clock.ts';
import { prepareImage } from '../../src/image/prepare-image.ts';
import type { RangedFile } from '../../src/sources/changed/block-hashes/base-blocks.ts';
import { type BlocksFile, type BlockTrackedSource, trackBlocks } from '../../src/sources/changed/block-hashes/track-blocks.ts';
import type { DiskSource } from '../../src/sources/contract.ts';
import { DEFAULT_OPTIONS, NEVER } from './image-in-process.ts';

export async function bytesOfFile(file: BlocksFile): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of file.chunks()) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** A file of block hashes in memory. */
export function rangedFile(bytes: Uint8Array): RangedFile {
  return { name: 'base.blocks', sizeBytes: bytes.length, readRange: async (start, end) => bytes.subarray(start, end) };
}

/** The block hashes of a disk, recorded by the scan of a full image. */
export async function blocksOfDisk(source: DiskSource, clusterSizeBytes = 65_536): Promise<Buffer> {
  const tracked = await trackBlocks(source, { signal: NEVER });
  await using prepared = await prepareImage({
    qcow2: { ...DEFAULT_OPTIONS, clusterSizeBytes },
    zeroDetection: 'content',
    openSource: async () => tracked,
    signal: NEVER,
    clock: systemClock,
    warn: () => {},
  });
  await prepared.seal();
  return bytesOfFile(tracked.blocks());
}

export const trackedOn = (source: DiskSource, base: Uint8Array): Promise<BlockTrackedSource> =>
  trackBlocks(source, { openBase: async () => rangedFile(base), signal: NEVER });

/** Never settles before `signal` is aborted. */
export async function hang(signal: AbortSignal): Promise<never> {
  await once(signal, 'abort');
  throw signal.reason;
}
