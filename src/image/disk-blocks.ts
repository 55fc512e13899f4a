/** A disk as blocks of one MiB, at multiples of it, and what its allocation map says of them. */

import { MIB } from '../common/bytes.ts';
import { type AllocationMap, bytesOfClusters, type ClusterKind } from '../qcow2/write/allocation-map.ts';

/** The unit of verifying, whatever the cluster size. */
export const BLOCK_SIZE_BYTES = MIB;

export interface Stretch {
  kind: ClusterKind;
  /** Offset on the disk. */
  start: number;
  end: number;
}

function* stretches(map: AllocationMap, fromRange: number): Generator<Stretch> {
  for (const { kind, firstCluster, clusterCount } of map.ranges(fromRange)) {
    const start = firstCluster * map.clusterSizeBytes;
    yield { kind, start, end: start + bytesOfClusters(map, firstCluster, clusterCount) };
  }
}

/** The stretches that make up one block, in order. Behind the disk's end there are none. */
export function* stretchesOf(map: AllocationMap, block: number): Generator<Stretch> {
  const blockStart = block * BLOCK_SIZE_BYTES;
  const blockEnd = blockStart + BLOCK_SIZE_BYTES;
  const firstRange = map.rangeOfCluster(Math.floor(blockStart / map.clusterSizeBytes));
  for (const { kind, start, end } of stretches(map, firstRange)) {
    if (start >= blockEnd) return;
    yield { kind, start: Math.max(start, blockStart), end: Math.min(end, blockEnd) };
  }
}

/** The parts of holes between two offsets, each within one block. */
export function* holesBetween(map: AllocationMap, from: number, to: number): Generator<Omit<Stretch, 'kind'>> {
  for (const { kind, start, end } of stretches(map, map.rangeOfCluster(Math.floor(from / map.clusterSizeBytes)))) {
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

/** Which kinds of clusters somebody asks for. */
type Wanted = (kind: ClusterKind) => boolean;

/** The first block and the one behind the last, for each stretch that holds something wanted; no block twice. */
function* spansOf(map: AllocationMap, wanted: Wanted): Generator<[first: number, end: number]> {
  let next = 0;
  for (const { kind, start, end } of stretches(map, 0)) {
    if (!wanted(kind)) continue;
    const first = Math.max(next, Math.floor(start / BLOCK_SIZE_BYTES));
    next = Math.ceil(end / BLOCK_SIZE_BYTES);
    yield [first, next];
  }
}

/** The number of blocks that hold a cluster that is wanted. */
export function countBlocks(map: AllocationMap, wanted: Wanted): number {
  let count = 0;
  for (const [first, end] of spansOf(map, wanted)) count += end - first;
  return count;
}

/** The blocks that hold a cluster that is wanted, in order, each once. */
export function* blocksWith(map: AllocationMap, wanted: Wanted): Generator<number> {
  for (const [first, end] of spansOf(map, wanted)) for (let block = first; block < end; block += 1) yield block;
}
