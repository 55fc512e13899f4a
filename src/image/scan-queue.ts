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
  lengthBytes: number;
  /** The buffer that holds the bytes. */
  done: Promise<Buffer>;
}

/** Adjacent clusters that certainly hold data, or that one read covers. */
interface Item extends ClusterSpan {
  read?: Read;
  /** The clusters to map, in order, with holes between them. All clusters when left out. */
  parts?: ClusterSpan[];
}

/** Clusters that one read covers. */
type Joined = ClusterSpan & { parts: ClusterSpan[] };

/** Reading a hole of this length takes no longer than another call. */
const MAX_GAP_BYTES = 32 * KIB;
/** A longer span is a read of its own. */
const MAX_JOINED_BYTES = 64 * KIB;

export function createScanQueue(options: ScanQueueOptions): ScanQueue {
  const { clusterSizeBytes, builder } = options;
  const mapContent = createContentMapper(options);
  const items: Item[] = [];
  const reader = createJoinedReader(options);
  const maxGap = Math.floor(MAX_GAP_BYTES / clusterSizeBytes);
  const maxJoined = Math.floor(MAX_JOINED_BYTES / clusterSizeBytes);
  /** Read that is not started yet, because it may take in the next span. */
  let joined: Joined | undefined;
  let readCount = 0;
  function startJoined(): void {
    if (joined === undefined) return;
    items.push({ ...joined, read: reader.start(joined) });
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
    const buffer = await item.read.done;
    const { firstCluster, clusterCount, parts = [{ firstCluster, clusterCount }] } = item;
    mapContent(buffer.subarray(0, item.read.lengthBytes), firstCluster, parts);
    reader.giveBack(buffer);
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

interface JoinedReader {
  start(joined: Joined): Read;
  /** Takes the buffer of a read that has succeeded, for a later read. */
  giveBack(buffer: Buffer): void;
}

type JoinedReaderOptions = Pick<ScanQueueOptions, 'source' | 'clusterSizeBytes' | 'readSizeBytes' | 'signal'>;

function createJoinedReader({ source, clusterSizeBytes, readSizeBytes, signal }: JoinedReaderOptions): JoinedReader {
  const idleBuffers: Buffer[] = [];
  let failure: { cause: unknown } | undefined;

  function start({ firstCluster, clusterCount, parts }: Joined): Read {
    const offset = firstCluster * clusterSizeBytes;
    const lengthBytes = Math.min(clusterCount * clusterSizeBytes, source.sizeBytes - offset);
    const readInto = (buffer: Buffer, span: ClusterSpan) => {
      const from = (span.firstCluster - firstCluster) * clusterSizeBytes;
      const to = Math.min(from + span.clusterCount * clusterSizeBytes, lengthBytes);
      return source.read(buffer.subarray(from, to), offset + from, signal);
    };
    /** An unreadable hole between the parts concerns no part. The buffer of the failed read is not used again. */
    async function readParts(): Promise<Buffer> {
      const buffer = allocateIoBuffer(readSizeBytes);
      for (const part of parts) {
        if (failure !== undefined) throw failure.cause;
        await readInto(buffer, part);
      }
      return buffer;
    }
    const buffer = idleBuffers.pop() ?? allocateIoBuffer(readSizeBytes);
    const whole = readInto(buffer, { firstCluster, clusterCount }).then(() => buffer);
    const done = parts.length === 1 ? whole : whole.catch(readParts);
    // Its turn to be awaited comes later; until then a failure is not unhandled.
    done.catch((cause: unknown) => {
      failure ??= { cause };
    });
    return { lengthBytes, done };
  }

  return { start, giveBack: (buffer) => void idleBuffers.push(buffer) };
}
