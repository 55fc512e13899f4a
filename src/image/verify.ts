/**
 * The promise "same source, or no image" for disks whose identity does not show writes. All that the scan has read is
 * read once more and compared by a hash of every MiB before the image can be complete. All first readings end before
 * the second ones begin, so a sealed image is the disk's content at the end of its scan
 * (docs/decisions/0010-verify.md).
 */

import { abortable } from '../common/abortable.ts';
import { allocateIoBuffer } from '../common/buffers.ts';
import { DiskliftError } from '../common/errors.ts';
import type { AllocationMap, ClusterKind } from '../qcow2/write/allocation-map.ts';
import type { DiskSource } from '../sources/contract.ts';
import { BLOCK_SIZE_BYTES, type BlockHashes, blocksWith, countBlocks, extentsOf, holesBetween } from './disk-blocks.ts';

export interface VerifiedDisk {
  /**
   * As {@link DiskSource.read}, but every byte comes out of a MiB that was compared. Holes are zeros, and so are
   * unchanged clusters, which no image reads.
   * @throws DiskliftError also `SourceChanged` that names the offset of the MiB that differs
   */
  read: DiskSource['read'];
  /** Reads and compares what has not been compared yet. @throws as `read` */
  finish(signal: AbortSignal): Promise<void>;
}

export interface VerifyInput {
  source: DiskSource;
  map: AllocationMap;
  /** Hashes of all clusters of data. */
  hashes: BlockHashes;
}

/** Concurrent comparisons while no reader waits for the bytes. Each takes a MiB of memory. */
const COMPARISONS_IN_FLIGHT = 4;

/** Concurrent comparisons of blocks of zeros that each read of data starts; several reads run at once. */
const TAKEN_ALONG_IN_FLIGHT = 2;

const isData = (kind: ClusterKind) => kind === 'data';
const isRead = (kind: ClusterKind) => kind === 'data' || kind === 'zero';

/** Reads must not begin before the scan has ended. */
export function verifyDisk(input: VerifyInput): VerifiedDisk {
  const { map, hashes } = input;
  const compare = createComparison(input);
  const keepPace = createPace(map, compare);
  const cache = createBlockCache(readData);

  async function readData(block: number, buffer: Uint8Array, signal: AbortSignal): Promise<void> {
    await compare(block, buffer, signal);
    await keepPace(signal);
  }

  return {
    async read(buffer, offset, signal) {
      const end = offset + buffer.length;
      if (end > map.diskSizeBytes) throw new RangeError(`bytes ${offset}..${end} are not on the disk`);
      const reads: Promise<void>[] = [];
      for (let at = offset; at < end; ) {
        const block = Math.floor(at / BLOCK_SIZE_BYTES);
        const blockStart = block * BLOCK_SIZE_BYTES;
        const to = Math.min(end, blockStart + BLOCK_SIZE_BYTES);
        const [target, from] = [buffer.subarray(at - offset, to - offset), at - blockStart];
        if (target.length === BLOCK_SIZE_BYTES) reads.push(readData(block, target, signal));
        else reads.push(cache.use(block, signal, (bytes) => target.set(bytes.subarray(from, from + target.length))));
        at = to;
      }
      await Promise.all(reads);
    },
    async finish(signal) {
      if (hashes.comparedCount < countBlocks(map, isRead)) {
        const batch = { blocks: blocksWith(map, isRead), limit: COMPARISONS_IN_FLIGHT, idleBuffers: [] };
        await inParallel(batch, async (block, buffer) => {
          if (!hashes.isCompared(block)) await compare(block, buffer, signal);
        });
      }
      // A write to a hole may leave the disk's identity unchanged.
      await compareHoles(input, signal);
    },
  };
}

/** Reads extents that were holes at the scan and are data now, and compares them with zeros. */
async function compareHoles({ source, map }: VerifyInput, signal: AbortSignal): Promise<void> {
  if (map.clusters.hole === 0) return;
  const zeros = Buffer.alloc(BLOCK_SIZE_BYTES);
  let buffer: Uint8Array | undefined;
  for await (const extent of source.extents(signal)) {
    if (extent.kind !== 'data') continue;
    const extentEnd = extent.offset + extent.length;
    for (const hole of holesBetween(map, extent.offset, extentEnd)) {
      buffer ??= allocateIoBuffer(BLOCK_SIZE_BYTES);
      const bytes = buffer.subarray(0, hole.end - hole.start);
      await source.read(bytes, hole.start, signal);
      if (!zeros.subarray(0, bytes.length).equals(bytes)) throw changedAt(source, hole.start);
    }
  }
}

function changedAt({ name }: DiskSource, offset: number): DiskliftError {
  const blockStart = offset - (offset % BLOCK_SIZE_BYTES);
  return new DiskliftError(
    'SourceChanged',
    `${name}: changed while it was read, in the MiB at offset ${blockStart}; stop its writer and try again`,
  );
}

type Compare = (block: number, buffer: Uint8Array, signal: AbortSignal) => Promise<void>;

/** Reads a block except for its holes and its unchanged clusters, and compares it with the data of the scan. */
function createComparison({ source, map, hashes }: VerifyInput): Compare {
  const zeros = Buffer.alloc(BLOCK_SIZE_BYTES);
  return async (block, buffer, signal) => {
    const blockStart = block * BLOCK_SIZE_BYTES;
    const pieces: Record<ClusterKind, Uint8Array[]> = { hole: [], zero: [], data: [], unchanged: [] };
    const toRead: { start: number; end: number }[] = [];
    for (const { kind, start, end } of extentsOf(map, block)) {
      pieces[kind].push(buffer.subarray(start - blockStart, end - blockStart));
      const last = toRead.at(-1);
      if (!isRead(kind)) continue;
      if (last?.end === start) last.end = end;
      else toRead.push({ start, end });
    }
    for (const piece of [...pieces.hole, ...pieces.unchanged]) piece.fill(0);
    await Promise.all(toRead.map(({ start, end }) => source.read(buffer.subarray(start - blockStart, end - blockStart), start, signal)));
    const isSame = pieces.zero.every((piece) => zeros.subarray(0, piece.length).equals(piece)) && hashes.matches(block, pieces.data);
    if (!isSame) throw changedAt(source, blockStart);
  };
}

/**
 * Blocks of zeros are not in the image, so no reader requests them. They are compared along the way, in proportion to
 * the data. If all were left to the end, a peer could wait for the last bytes longer than its time limit.
 * @returns a function to call after each comparison of a block of data; it waits until the blocks of zeros have kept
 * pace
 */
function createPace(map: AllocationMap, compare: Compare): (signal: AbortSignal) => Promise<void> {
  const dataCount = countBlocks(map, isData);
  const droppedCount = countBlocks(map, isRead) - dataCount;
  const dropped = blocksOfZeros(map);
  const idleBuffers: Uint8Array[] = [];
  let doneCount = 0;
  let begunCount = 0;
  return async (signal) => {
    doneCount += 1;
    const target = Math.min(droppedCount, Math.ceil((doneCount / dataCount) * droppedCount));
    const due = function* () {
      while (begunCount < target) {
        begunCount += 1;
        yield dropped.next().value as number;
      }
    };
    // `finish` compares blocks again whose comparison fails here.
    const batch = { blocks: due(), limit: TAKEN_ALONG_IN_FLIGHT, idleBuffers };
    await inParallel(batch, (block, buffer) => compare(block, buffer, signal));
  };
}

function* blocksOfZeros(map: AllocationMap): Generator<number> {
  for (const block of blocksWith(map, (kind) => kind === 'zero')) {
    let holdsData = false;
    for (const { kind } of extentsOf(map, block)) holdsData ||= isData(kind);
    if (!holdsData) yield block;
  }
}

interface Batch {
  blocks: Generator<number>;
  /** Number of concurrent tasks. */
  limit: number;
  /** A buffer that a failed read may still write to does not come back. */
  idleBuffers: Uint8Array[];
}

/** Runs `task` for each block, until one fails. */
async function inParallel({ blocks, limit, idleBuffers }: Batch, task: (block: number, buffer: Uint8Array) => Promise<void>) {
  const work = async () => {
    for (const block of blocks) {
      const buffer = idleBuffers.pop() ?? allocateIoBuffer(BLOCK_SIZE_BYTES);
      await task(block, buffer);
      idleBuffers.push(buffer);
    }
  };
  await Promise.all(Array.from({ length: limit }, work));
}

export interface BlockCache {
  /**
   * Calls `take` with the block's bytes, valid during that call only.
   * @throws what `load` throws, `Cancelled` at once
   */
  use(block: number, signal: AbortSignal, take: (bytes: Uint8Array) => void): Promise<void>;
}

interface Entry {
  buffer: Buffer;
  loaded: Promise<void>;
  /** Signal of the first caller. When it is aborted, the other callers begin a new load. */
  signal: AbortSignal;
  userCount: number;
  /** True after a successful load; nothing writes to `buffer` any more. */
  isLoaded: boolean;
}

/** Enough for the read-ahead of a stream. More blocks stay only while they are in use. */
const KEPT_BLOCKS = 8;

export function createBlockCache(load: (block: number, buffer: Uint8Array, signal: AbortSignal) => Promise<void>): BlockCache {
  /** In the order of their last use. */
  const entries = new Map<number, Entry>();

  /**
   * Drops the blocks above the limit that were not used for longest.
   * @returns the buffer of one of them, or a new one
   */
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
