/**
 * From a disk to its allocation map. Holes are skipped without being read. A cluster that the page cache shows to hold
 * data is not read either. All else is read and compared with zeros by whole clusters, several reads in flight, because
 * storage behind a network answers late but answers many at a time.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../common/abortable.ts';
import { KIB, MIB } from '../common/bytes.ts';
import { type AllocationMap, type AllocationMapBuilder, createAllocationMapBuilder } from '../qcow2/write/allocation-map.ts';
import type { DiskSource, SourceExtent } from '../sources/contract.ts';
import type { ClusterSpan } from './content-mapper.ts';
import { createScanQueue } from './scan-queue.ts';

/** 'content': read the data and drop clusters of zeros. 'extents': trust holes alone and read nothing. */
export type ZeroDetection = 'content' | 'extents';

export interface ScanOptions {
  source: DiskSource;
  clusterSizeBytes: number;
  zeroDetection: ZeroDetection;
  signal: AbortSignal;
  /** Called as the scan proceeds, with the bytes of the disk that have been decided so far. */
  onProgress?: ((scannedBytes: number) => void) | undefined;
  /**
   * Called with all clusters that hold data, in the order of the disk; the bytes are valid during the call only. When it is
   * there, all that is not a hole is read, whatever the cache shows of it.
   */
  onData?: ((bytes: Uint8Array, offset: number) => void) | undefined;
}

/** A read this long keeps a disk busy and costs little in calls. A cluster is never larger. */
const READ_SIZE_BYTES = 2 * MIB;

/** At 5 ms a request, 6 reads of 2 MiB carry 2.4 GB/s. More only costs memory. */
const READS_IN_FLIGHT = 6;

/** @throws DiskliftError as {@link DiskSource.read} */
export async function scanDisk(options: ScanOptions): Promise<AllocationMap> {
  const { source, clusterSizeBytes } = options;
  const builder = createAllocationMapBuilder(source.sizeBytes, clusterSizeBytes);
  const holes = options.zeroDetection === 'content' ? 'worthwhile' : 'all';
  const spans = clusterSpans(source.extents(options.signal, holes), clusterSizeBytes);
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

/** A look at the cache costs about a microsecond; to read a smaller cluster whole costs no more. */
const SMALLEST_LOOKED_AT_BYTES = 16 * KIB;

/** Looks that are taken before other work of the process has its turn: about a millisecond. */
const LOOKS_IN_A_ROW = 1024;

async function mapContent(
  { source, clusterSizeBytes, signal, onData }: ScanOptions,
  spans: AsyncIterable<ClusterSpan>,
  builder: AllocationMapBuilder,
  progress: () => void,
): Promise<void> {
  const queue = createScanQueue({
    source,
    clusterSizeBytes,
    readSizeBytes: READ_SIZE_BYTES,
    readsInFlight: READS_IN_FLIGHT,
    signal,
    builder,
    onData,
  });
  const looks = onData === undefined && clusterSizeBytes >= SMALLEST_LOOKED_AT_BYTES;
  let lookCount = 0;

  for await (const span of spans) {
    const spanEnd = span.firstCluster + span.clusterCount;
    for (let firstCluster = span.firstCluster; firstCluster < spanEnd; ) {
      if (looks && source.showsData?.(firstCluster * clusterSizeBytes) === true) {
        queue.addData({ firstCluster, clusterCount: 1 });
        firstCluster += 1;
        lookCount += 1;
        if (lookCount % LOOKS_IN_A_ROW !== 0) continue;
        await nextTurn();
        throwIfAborted(signal);
        queue.flushKnown();
      } else {
        const clusterCount = Math.min(READ_SIZE_BYTES / clusterSizeBytes, spanEnd - firstCluster);
        await queue.addRead({ firstCluster, clusterCount });
        firstCluster += clusterCount;
      }
      progress();
    }
  }
  await queue.finish();
}
