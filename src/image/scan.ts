/**
 * From a disk to its allocation map. The scan reads neither holes nor clusters that the page cache shows to hold data.
 * It reads the rest and compares whole clusters with zeros. Several reads are in flight, because storage behind a
 * network answers late, but answers many at a time.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../common/abortable.ts';
import { KIB, MIB } from '../common/bytes.ts';
import { type AllocationMap, type AllocationMapBuilder, createAllocationMapBuilder } from '../qcow2/write/allocation-map.ts';
import { changedClusters } from '../sources/changed/clusters.ts';
import type { ChangedBlocks, ChangedExtent } from '../sources/changed/contract.ts';
import type { DiskSource, SourceExtent } from '../sources/contract.ts';
import { createDeltaPlan, type ScanPlan } from './delta-map.ts';
import { createScanQueue, type ScanRange } from './scan-queue.ts';

/** 'content' reads the data and drops clusters of zeros; 'extents' reads nothing and drops holes only. */
export type ZeroDetection = 'content' | 'extents';

export interface ScanOptions {
  source: DiskSource;
  clusterSizeBytes: number;
  zeroDetection: ZeroDetection;
  signal: AbortSignal;
  /** Called as the scan proceeds, with the number of bytes that have been scanned. */
  onProgress?: ((scannedBytes: number) => void) | undefined;
  /**
   * Called with all clusters that hold data, in the order of the disk. The bytes are valid until the call has ended;
   * the scan waits for it. With it, the scan reads all but holes, without a look at the page cache.
   */
  onData?: ((bytes: Uint8Array, offset: number) => void | Promise<void>) | undefined;
  /** Makes the map of a delta: only changed clusters are read, and the rest is 'unchanged'. */
  delta?: DeltaOptions | undefined;
}

export interface DeltaOptions {
  changed: ChangedBlocks;
  /** Size of the disk in the base; not above its present size. */
  baseSizeBytes: number;
}

/** A read of this size keeps a disk busy with few calls. No cluster is larger. */
const READ_SIZE_BYTES = 2 * MIB;

/** At 5 ms a request, 6 reads of 2 MiB carry 2.4 GB/s. More would only take memory. */
const READS_IN_FLIGHT = 6;

/** @throws DiskliftError as {@link DiskSource.read} */
export async function scanDisk(options: ScanOptions): Promise<AllocationMap> {
  const { source, clusterSizeBytes } = options;
  let mappedBytes = 0;
  const progress = () => options.onProgress?.(Math.max(mappedBytes, Math.min(builder.clusterCount * clusterSizeBytes, source.sizeBytes)));
  const onMapped = (bytes: number) => {
    mappedBytes = bytes;
    progress();
  };
  const { ranges, builder } = options.delta === undefined ? planFullScan(options) : planDeltaScan(options, options.delta, onMapped);
  if (options.zeroDetection === 'content') await mapContent(options, ranges, builder, progress);
  else await mapExtents(ranges, builder, progress);
  builder.append('hole', Math.ceil(source.sizeBytes / clusterSizeBytes) - builder.clusterCount);
  progress();
  return builder.build();
}

function planFullScan({ source, clusterSizeBytes, zeroDetection, signal }: ScanOptions): ScanPlan {
  const holes = zeroDetection === 'content' ? 'worthwhile' : 'all';
  const ranges = scanRanges(source.extents(signal, holes), clusterSizeBytes);
  return { ranges, builder: createAllocationMapBuilder(source.sizeBytes, clusterSizeBytes) };
}

/** @param onMapped receives the end of what the map has shown, because a map may be made by reading the whole disk */
function planDeltaScan(
  { source, clusterSizeBytes, signal }: ScanOptions,
  { changed, baseSizeBytes }: DeltaOptions,
  onMapped: (bytes: number) => void,
): ScanPlan {
  const { sizeBytes: diskSizeBytes } = source;
  async function* extents(): AsyncGenerator<ChangedExtent> {
    for await (const extent of changed.extents(signal)) {
      yield extent;
      onMapped(extent.offset + extent.length);
    }
  }
  const ranges = changedClusters({ extents: extents(), diskSizeBytes, clusterSizeBytes, baseSizeBytes });
  return createDeltaPlan(ranges, createAllocationMapBuilder(diskSizeBytes, clusterSizeBytes));
}

/** Clusters that hold data, each once. Several extents may lie in one cluster, and an extent may begin inside one. */
async function* scanRanges(extents: AsyncIterable<SourceExtent>, clusterSizeBytes: number): AsyncGenerator<ScanRange> {
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

async function mapExtents(ranges: AsyncIterable<ScanRange>, builder: AllocationMapBuilder, progress: () => void): Promise<void> {
  for await (const range of ranges) {
    builder.append('hole', range.firstCluster - builder.clusterCount);
    builder.append('data', range.clusterCount);
    progress();
  }
}

/** A look at the page cache takes about a microsecond. Reading a smaller cluster takes no longer. */
const MIN_LOOKED_AT_BYTES = 16 * KIB;

/** Looks before other work of the process has its turn: about a millisecond. */
const LOOKS_IN_A_ROW = 1024;

async function mapContent(
  { source, clusterSizeBytes, signal, onData }: ScanOptions,
  ranges: AsyncIterable<ScanRange>,
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
  const looks = onData === undefined && clusterSizeBytes >= MIN_LOOKED_AT_BYTES;
  let lookCount = 0;

  for await (const range of ranges) {
    const rangeEnd = range.firstCluster + range.clusterCount;
    for (let firstCluster = range.firstCluster; firstCluster < rangeEnd; ) {
      if (looks && source.showsData?.(firstCluster * clusterSizeBytes) === true) {
        queue.addData({ firstCluster, clusterCount: 1 });
        firstCluster += 1;
        lookCount += 1;
        if (lookCount % LOOKS_IN_A_ROW !== 0) continue;
        await nextTurn();
        throwIfAborted(signal);
        queue.flushKnown();
      } else {
        const clusterCount = Math.min(READ_SIZE_BYTES / clusterSizeBytes, rangeEnd - firstCluster);
        await queue.addRead({ firstCluster, clusterCount });
        firstCluster += clusterCount;
      }
      progress();
    }
  }
  await queue.finish();
}
