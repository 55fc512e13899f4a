/** Clusters on their way into the map: those that are being read, and those known already, in the order of the disk. */

import { allocateIoBuffer } from '../common/io-buffer.ts';
import type { AllocationMapBuilder } from '../qcow2/allocation-map.ts';
import type { DiskSource } from '../sources/contract.ts';

export interface ClusterSpan {
  firstCluster: number;
  clusterCount: number;
}

export interface ScanQueue {
  /** Clusters that hold data for certain. */
  addData(span: ClusterSpan): void;
  /** Starts reading clusters to see what they hold; waits for an earlier read while too many are in flight. */
  addRead(span: ClusterSpan): Promise<void>;
  /** Puts into the map what does not have to be waited for. */
  flushKnown(): void;
  /** Puts everything into the map. */
  finish(): Promise<void>;
}

export interface ScanQueueOptions {
  source: DiskSource;
  clusterSizeBytes: number;
  /** The most that a span of `addRead` may have. */
  readSizeBytes: number;
  readsInFlight: number;
  signal: AbortSignal;
  builder: AllocationMapBuilder;
  /** Called with all clusters that were read and hold data, in the order of the disk; the bytes are valid during the call only. */
  onData?: ((bytes: Uint8Array, offset: number) => void) | undefined;
}

interface Read {
  buffer: Buffer;
  lengthBytes: number;
  done: Promise<void>;
}

interface Item extends ClusterSpan {
  read?: Read;
}

export function createScanQueue(options: ScanQueueOptions): ScanQueue {
  const { source, clusterSizeBytes, signal, builder, onData } = options;
  const zeros = Buffer.alloc(clusterSizeBytes);
  const items: Item[] = [];
  const idleBuffers: Buffer[] = [];
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

  function mapContentOf({ buffer, lengthBytes }: Read, offset: number): void {
    let dataFrom = 0;
    const passOn = (dataEnd: number) => {
      if (dataEnd > dataFrom) onData?.(buffer.subarray(dataFrom, dataEnd), offset + dataFrom);
    };
    for (let at = 0; at < lengthBytes; at += clusterSizeBytes) {
      const end = Math.min(at + clusterSizeBytes, lengthBytes);
      const isZero = buffer[at] === 0 && zeros.compare(buffer, at, end, 0, end - at) === 0;
      builder.append(isZero ? 'zero' : 'data', 1);
      if (!isZero) continue;
      passOn(at);
      dataFrom = end;
    }
    passOn(lengthBytes);
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
    builder.append('hole', item.firstCluster - builder.clusterCount);
    mapContentOf(item.read, item.firstCluster * clusterSizeBytes);
    idleBuffers.push(item.read.buffer);
    items.shift();
    readCount -= 1;
  }

  return {
    addData({ firstCluster, clusterCount }) {
      const last = items.at(-1);
      const follows = last !== undefined && last.read === undefined && last.firstCluster + last.clusterCount === firstCluster;
      if (follows) last.clusterCount += clusterCount;
      else items.push({ firstCluster, clusterCount });
    },
    async addRead(span) {
      if (readCount === options.readsInFlight) await finishOldestRead();
      items.push({ ...span, read: startRead(span) });
      readCount += 1;
    },
    flushKnown,
    async finish() {
      while (readCount > 0) await finishOldestRead();
      flushKnown();
    },
  };
}
