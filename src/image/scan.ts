/**
 * From a disk to its allocation map. Holes are skipped without being read. What is read is compared with zeros by whole
 * clusters, several reads in flight, because storage behind a network answers late but answers many at a time.
 */

import { MIB } from '../common/bytes.ts';
import { allocateIoBuffer } from '../common/io-buffer.ts';
import { type AllocationMap, type AllocationMapBuilder, createAllocationMapBuilder } from '../qcow2/allocation-map.ts';
import type { DiskSource, SourceExtent } from '../sources/contract.ts';

/** 'content': read the data and drop clusters of zeros. 'extents': trust holes alone and read nothing. */
export type ZeroDetection = 'content' | 'extents';

export interface ScanOptions {
  source: DiskSource;
  clusterSizeBytes: number;
  zeroDetection: ZeroDetection;
  signal: AbortSignal;
  /** Called as the scan proceeds, with the bytes of the disk that have been decided so far. */
  onProgress?: ((scannedBytes: number) => void) | undefined;
}

/** A read this long keeps a disk busy and costs little in calls. A cluster is never larger. */
const READ_SIZE_BYTES = 2 * MIB;

/** At 5 ms a request, 6 reads of 2 MiB carry 2.4 GB/s. More only costs memory. */
const READS_IN_FLIGHT = 6;

interface ClusterSpan {
  firstCluster: number;
  clusterCount: number;
}

/** @throws DiskliftError as {@link DiskSource.read} */
export async function scanDisk(options: ScanOptions): Promise<AllocationMap> {
  const { source, clusterSizeBytes } = options;
  const builder = createAllocationMapBuilder(source.sizeBytes, clusterSizeBytes);
  const spans = clusterSpans(source.extents(options.signal), clusterSizeBytes);
  const progress = () => options.onProgress?.(Math.min(builder.clusterCount * clusterSizeBytes, source.sizeBytes));
  if (options.zeroDetection === 'content') await mapContent(options, spans, builder, progress);
  else await mapExtents(spans, builder, progress);
  builder.append('hole', Math.ceil(source.sizeBytes / clusterSizeBytes) - builder.clusterCount);
  progress();
  return builder.build();
}

/** The clusters that hold data, each once: several extents may lie in one cluster, and one may begin inside of it. */
async function* clusterSpans(extents: AsyncIterable<SourceExtent>, clusterSizeBytes: number): AsyncGenerator<ClusterSpan> {
  let firstCluster = 0;
  let end = 0;
  for await (const extent of extents) {
    if (extent.kind !== 'data' || extent.length === 0) continue;
    const extentFirst = Math.floor(extent.offset / clusterSizeBytes);
    const extentEnd = Math.ceil((extent.offset + extent.length) / clusterSizeBytes);
    if (extentFirst > end) {
      if (end > firstCluster) yield { firstCluster, clusterCount: end - firstCluster };
      firstCluster = extentFirst;
    }
    end = extentEnd;
  }
  if (end > firstCluster) yield { firstCluster, clusterCount: end - firstCluster };
}

async function mapExtents(spans: AsyncIterable<ClusterSpan>, builder: AllocationMapBuilder, progress: () => void): Promise<void> {
  for await (const span of spans) {
    builder.append('hole', span.firstCluster - builder.clusterCount);
    builder.append('data', span.clusterCount);
    progress();
  }
}

interface ReadInFlight extends ClusterSpan {
  buffer: Buffer;
  lengthBytes: number;
  done: Promise<void>;
}

async function mapContent(
  { source, clusterSizeBytes, signal }: ScanOptions,
  spans: AsyncIterable<ClusterSpan>,
  builder: AllocationMapBuilder,
  progress: () => void,
): Promise<void> {
  const clustersPerRead = Math.max(1, READ_SIZE_BYTES / clusterSizeBytes);
  const zeros = Buffer.alloc(clusterSizeBytes);
  const inFlight: ReadInFlight[] = [];
  const idleBuffers: Buffer[] = [];

  function start({ firstCluster, clusterCount }: ClusterSpan): void {
    const buffer = idleBuffers.pop() ?? allocateIoBuffer(clustersPerRead * clusterSizeBytes);
    const offset = firstCluster * clusterSizeBytes;
    const lengthBytes = Math.min(clusterCount * clusterSizeBytes, source.sizeBytes - offset);
    const done = source.read(buffer.subarray(0, lengthBytes), offset, signal);
    // Its turn to be awaited comes later; until then a failure is not unhandled.
    done.catch(() => {});
    inFlight.push({ firstCluster, clusterCount, buffer, lengthBytes, done });
  }

  async function finishOldest(): Promise<void> {
    const read = inFlight.shift() as ReadInFlight;
    await read.done;
    builder.append('hole', read.firstCluster - builder.clusterCount);
    for (let at = 0; at < read.lengthBytes; at += clusterSizeBytes) {
      const end = Math.min(at + clusterSizeBytes, read.lengthBytes);
      const isZero = read.buffer[at] === 0 && zeros.compare(read.buffer, at, end, 0, end - at) === 0;
      builder.append(isZero ? 'zero' : 'data', 1);
    }
    idleBuffers.push(read.buffer);
    progress();
  }

  for await (const span of spans) {
    const spanEnd = span.firstCluster + span.clusterCount;
    for (let firstCluster = span.firstCluster; firstCluster < spanEnd; firstCluster += clustersPerRead) {
      if (inFlight.length === READS_IN_FLIGHT) await finishOldest();
      start({ firstCluster, clusterCount: Math.min(clustersPerRead, spanEnd - firstCluster) });
    }
  }
  while (inFlight.length > 0) await finishOldest();
}
