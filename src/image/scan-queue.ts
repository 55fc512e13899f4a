/**
 * Clusters on their way into the map, in the order of the disk: reads in flight, and clusters that certainly hold data.
 */

import { allocateIoBuffer } from '../common/buffers.ts';
import { KIB } from '../common/bytes.ts';
import type { AllocationMapBuilder } from '../qcow2/write/allocation-map.ts';
import type { DiskSource } from '../sources/contract.ts';

export interface ScanQueue {
  /** Adds clusters that certainly hold data. */
  addData(range: ScanRange): void;
  /**
   * Starts reading clusters to find zeros. Waits for an earlier read while too many are in flight. One read covers
   * short ranges that follow each other closely.
   */
  addRead(range: ScanRange): Promise<void>;
  /** Puts clusters into the map that wait for no read. */
  flushKnown(): void;
  /** Puts everything into the map. */
  finish(): Promise<void>;
}

export interface ScanQueueOptions extends ContentMapperOptions {
  source: DiskSource;
  /** Upper bound of a range of `addRead`. */
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
interface Item extends ScanRange {
  read?: Read;
  /** The clusters to map, in order, with holes between them. All clusters when left out. */
  parts?: ScanRange[];
}

/** Clusters that one read covers. */
type Joined = ScanRange & { parts: ScanRange[] };

/** Reading a hole of this length takes no longer than another call. */
const MAX_GAP_BYTES = 32 * KIB;
/** A longer range is a read of its own. */
const MAX_JOINED_BYTES = 64 * KIB;

export function createScanQueue(options: ScanQueueOptions): ScanQueue {
  const { clusterSizeBytes, builder } = options;
  const mapContent = createContentMapper(options);
  const items: Item[] = [];
  const reader = createJoinedReader(options);
  const maxGap = Math.floor(MAX_GAP_BYTES / clusterSizeBytes);
  const maxJoined = Math.floor(MAX_JOINED_BYTES / clusterSizeBytes);
  /** A read that has not started, because it may cover the next range too. */
  let joined: Joined | undefined;
  let readCount = 0;
  function startJoined(): void {
    if (joined === undefined) return;
    items.push({ ...joined, read: reader.start(joined) });
    readCount += 1;
    joined = undefined;
  }

  /** @returns whether the clusters join the pending read */
  function join(range: ScanRange): boolean {
    if (joined === undefined) return false;
    const gap = range.firstCluster - (joined.firstCluster + joined.clusterCount);
    const clusterCount = range.firstCluster + range.clusterCount - joined.firstCluster;
    if (gap > maxGap || clusterCount * clusterSizeBytes > options.readSizeBytes) return false;
    joined.clusterCount = clusterCount;
    joined.parts.push(range);
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
    await mapContent(buffer.subarray(0, item.read.lengthBytes), firstCluster, parts);
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
    async addRead(range) {
      if (join(range)) return;
      startJoined();
      while (readCount >= options.readsInFlight) await finishOldestRead();
      joined = { ...range, parts: [range] };
      if (range.clusterCount > maxJoined) startJoined();
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
    const readInto = (buffer: Buffer, range: ScanRange) => {
      const from = (range.firstCluster - firstCluster) * clusterSizeBytes;
      const to = Math.min(from + range.clusterCount * clusterSizeBytes, lengthBytes);
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
    // The queue awaits it later; until then a failure is not unhandled.
    done.catch((cause: unknown) => {
      failure ??= { cause };
    });
    return { lengthBytes, done };
  }

  return { start, giveBack: (buffer) => void idleBuffers.push(buffer) };
}

export interface ScanRange {
  firstCluster: number;
  clusterCount: number;
}

interface ContentMapperOptions {
  clusterSizeBytes: number;
  builder: AllocationMapBuilder;
  /**
   * Receives all clusters that were read and hold data, in the order of the disk. The bytes are valid until the call
   * has ended.
   */
  onData?: ((bytes: Uint8Array, offset: number) => void | Promise<void>) | undefined;
}

/**
 * @param bytes of the disk from `firstCluster` on
 * @param ranges the clusters to map, in order; a hole lies in front of each
 */
type ContentMapper = (bytes: Buffer, firstCluster: number, ranges: readonly ScanRange[]) => Promise<void>;

function createContentMapper({ clusterSizeBytes, builder, onData }: ContentMapperOptions): ContentMapper {
  const zeros = Buffer.alloc(clusterSizeBytes);

  async function mapRange(bytes: Buffer, start: number, bytesAt: number): Promise<void> {
    let dataFrom = start;
    const passOn = (dataEnd: number) => (dataEnd > dataFrom ? onData?.(bytes.subarray(dataFrom, dataEnd), bytesAt + dataFrom) : undefined);
    for (let at = start; at < bytes.length; at += clusterSizeBytes) {
      const end = Math.min(at + clusterSizeBytes, bytes.length);
      const isZero = bytes[at] === 0 && zeros.compare(bytes, at, end, 0, end - at) === 0;
      builder.append(isZero ? 'zero' : 'data', 1);
      if (!isZero) continue;
      if (onData !== undefined) await passOn(at);
      dataFrom = end;
    }
    await passOn(bytes.length);
  }

  return async (bytes, firstCluster, ranges) => {
    for (const range of ranges) {
      builder.append('hole', range.firstCluster - builder.clusterCount);
      const start = (range.firstCluster - firstCluster) * clusterSizeBytes;
      await mapRange(bytes.subarray(0, start + range.clusterCount * clusterSizeBytes), start, firstCluster * clusterSizeBytes);
    }
  };
}
