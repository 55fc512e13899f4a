/** Clusters on their way into the map: those that are being read, and those known already, in the order of the disk. */

import { KIB } from '../common/bytes.ts';
import { allocateIoBuffer } from '../common/io-buffer.ts';
import type { DiskSource } from '../sources/contract.ts';
import { type ClusterSpan, type ContentMapperOptions, createContentMapper } from './content-mapper.ts';

export interface ScanQueue {
  /** Clusters that hold data for certain. */
  addData(span: ClusterSpan): void;
  /**
   * Starts reading clusters to see what they hold; waits for an earlier read while too many are in flight. Short spans are read together
   * with those that follow closely.
   */
  addRead(span: ClusterSpan): Promise<void>;
  /** Puts into the map what does not have to be waited for. */
  flushKnown(): void;
  /** Puts everything into the map. */
  finish(): Promise<void>;
}

export interface ScanQueueOptions extends ContentMapperOptions {
  source: DiskSource;
  /** The most that a span of `addRead` may have. */
  readSizeBytes: number;
  readsInFlight: number;
  signal: AbortSignal;
}

interface Read {
  buffer: Buffer;
  lengthBytes: number;
  done: Promise<void>;
}

/** Adjacent clusters that certainly hold data, or that one read covers. */
interface Item extends ClusterSpan {
  read?: Read;
  /** The clusters to map, in order, with holes between them. All clusters when left out. */
  parts?: ClusterSpan[];
}

/** Reading a hole of this length takes no longer than another call. */
const MAX_GAP_BYTES = 32 * KIB;
/** A longer span is a read of its own. */
const MAX_JOINED_BYTES = 64 * KIB;

export function createScanQueue(options: ScanQueueOptions): ScanQueue {
  const { source, clusterSizeBytes, signal, builder } = options;
  const mapContent = createContentMapper(options);
  const items: Item[] = [];
  const idleBuffers: Buffer[] = [];
  const maxGap = Math.floor(MAX_GAP_BYTES / clusterSizeBytes);
  const maxJoined = Math.floor(MAX_JOINED_BYTES / clusterSizeBytes);
  /** Read that is not started yet, because it may take in the next span. */
  let joined: (Item & { parts: ClusterSpan[] }) | undefined;
  let readCount = 0;

  function startRead({ firstCluster, clusterCount }: ClusterSpan): Read {
    const buffer = idleBuffers.pop() ?? allocateIoBuffer(options.readSizeBytes);
    const offset = firstCluster * clusterSizeBytes;
    const lengthBytes = Math.min(clusterCount * clusterSizeBytes, source.sizeBytes - offset);
    const done = source.read(buffer.subarray(0, lengthBytes), offset, signal);
    // Its turn to be awaited comes later; until then a failure is not unhandled.
    done.catch(() => {});
    return { buffer, lengthBytes, done };
  }

  function startJoined(): void {
    if (joined === undefined) return;
    items.push({ ...joined, read: startRead(joined) });
    readCount += 1;
    joined = undefined;
  }

  /** @returns whether the clusters join the pending read */
  function join(span: ClusterSpan): boolean {
    if (joined === undefined) return false;
    const gap = span.firstCluster - (joined.firstCluster + joined.clusterCount);
    const clusterCount = span.firstCluster + span.clusterCount - joined.firstCluster;
    if (gap > maxGap || clusterCount * clusterSizeBytes > options.readSizeBytes) return false;
    joined.clusterCount = clusterCount;
    joined.parts.push(span);
    return true;
  }

  function flushKnown(): void {
    for (let item = items[0]; item !== undefined && item.read === undefined; item = items[0]) {
      builder.append('hole', item.firstCluster - builder.clusterCount);
      builder.append('data', item.clusterCount);
      items.shift();
    }
  }

  async function finishOldestRead(): Promise<void> {
    flushKnown();
    const item = items[0];
    if (item?.read === undefined) return;
    await item.read.done;
    const { firstCluster, clusterCount, parts = [{ firstCluster, clusterCount }] } = item;
    mapContent(item.read.buffer.subarray(0, item.read.lengthBytes), firstCluster, parts);
    idleBuffers.push(item.read.buffer);
    items.shift();
    readCount -= 1;
  }

  return {
    addData({ firstCluster, clusterCount }) {
      startJoined();
      const last = items.at(-1);
      const follows = last !== undefined && last.read === undefined && last.firstCluster + last.clusterCount === firstCluster;
      if (follows) last.clusterCount += clusterCount;
      else items.push({ firstCluster, clusterCount });
    },
    async addRead(span) {
      if (join(span)) return;
      startJoined();
      while (readCount >= options.readsInFlight) await finishOldestRead();
      joined = { ...span, parts: [span] };
      if (span.clusterCount > maxJoined) startJoined();
    },
    flushKnown,
    async finish() {
      startJoined();
      while (readCount > 0) await finishOldestRead();
      flushKnown();
    },
  };
}
