/**
 * Blocks of one MiB of a disk: the clusters in them, and a hash of the data of each, from the scan to the second
 * reading.
 */

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { MIB } from '../common/bytes.ts';
import { type AllocationMap, bytesOfClusters, type ClusterKind } from '../qcow2/write/allocation-map.ts';

/** The unit of verifying, whatever the cluster size. */
export const BLOCK_SIZE_BYTES = MIB;

export interface BlockExtent {
  kind: ClusterKind;
  /** Offset on the disk. */
  start: number;
  end: number;
}

function* extentsFrom(map: AllocationMap, fromRange: number): Generator<BlockExtent> {
  for (const { kind, firstCluster, clusterCount } of map.ranges(fromRange)) {
    const start = firstCluster * map.clusterSizeBytes;
    yield { kind, start, end: start + bytesOfClusters(map, firstCluster, clusterCount) };
  }
}

/** Extents of one block, in order. A block behind the disk's end has no extents. */
export function* extentsOf(map: AllocationMap, block: number): Generator<BlockExtent> {
  const blockStart = block * BLOCK_SIZE_BYTES;
  const blockEnd = blockStart + BLOCK_SIZE_BYTES;
  const firstRange = map.rangeOfCluster(Math.floor(blockStart / map.clusterSizeBytes));
  for (const { kind, start, end } of extentsFrom(map, firstRange)) {
    if (start >= blockEnd) return;
    yield { kind, start: Math.max(start, blockStart), end: Math.min(end, blockEnd) };
  }
}

/** The parts of holes between two offsets, each within one block. */
export function* holesBetween(map: AllocationMap, from: number, to: number): Generator<Omit<BlockExtent, 'kind'>> {
  for (const { kind, start, end } of extentsFrom(map, map.rangeOfCluster(Math.floor(from / map.clusterSizeBytes)))) {
    if (start >= to) return;
    if (kind !== 'hole') continue;
    const last = Math.min(end, to);
    for (let at = Math.max(start, from); at < last; ) {
      const next = Math.min(last, (Math.floor(at / BLOCK_SIZE_BYTES) + 1) * BLOCK_SIZE_BYTES);
      yield { start: at, end: next };
      at = next;
    }
  }
}

/** Whether the caller wants clusters of a kind. */
type Wanted = (kind: ClusterKind) => boolean;

/** First block and the block behind the last one, for each wanted extent; no block twice. */
function* blockRanges(map: AllocationMap, wanted: Wanted): Generator<[first: number, end: number]> {
  let next = 0;
  for (const { kind, start, end } of extentsFrom(map, 0)) {
    if (!wanted(kind)) continue;
    const first = Math.max(next, Math.floor(start / BLOCK_SIZE_BYTES));
    next = Math.ceil(end / BLOCK_SIZE_BYTES);
    yield [first, next];
  }
}

/** The number of blocks that hold a cluster that is wanted. */
export function countBlocks(map: AllocationMap, wanted: Wanted): number {
  let count = 0;
  for (const [first, end] of blockRanges(map, wanted)) count += end - first;
  return count;
}

/** The blocks that hold a cluster that is wanted, in order, each once. */
export function* blocksWith(map: AllocationMap, wanted: Wanted): Generator<number> {
  for (const [first, end] of blockRanges(map, wanted)) for (let block = first; block < end; block += 1) yield block;
}

export interface BlockHashes {
  /** Adds data of the disk. The data of one block must come in order. */
  add(bytes: Uint8Array, offset: number): void;
  /**
   * Compares `pieces`, which together must cover the same bytes that were added of the block. A block with equal bytes
   * counts as compared from then on.
   */
  matches(block: number, pieces: Iterable<Uint8Array>): boolean;
  /** Whether an earlier comparison found the block equal. */
  isCompared(block: number): boolean;
  /** Number of blocks that were found equal, each counted once. */
  readonly comparedCount: number;
  /** One hash, in hex, of all data that was added. */
  digest(): string;
}

/** Blocks whose hashes share an array: few arrays for a full disk, few unused hashes for a scattered one. */
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
