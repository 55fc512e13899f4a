/** From changed extents, of any granularity, to the clusters of a delta. Pure. */

import { alignUp } from '../../common/bytes.ts';
import type { SourceExtent } from '../contract.ts';
import type { ChangedExtent } from './contract.ts';

export interface ChangedRange {
  /** 'zeros': changed, and the source reports all of it as zeros. 'data': changed, and must be read. */
  kind: 'unchanged' | SourceExtent['kind'];
  firstCluster: number;
  clusterCount: number;
}

export interface ClustersInput {
  /** As {@link ChangedBlocks.extents}. */
  extents: AsyncIterable<ChangedExtent>;
  diskSizeBytes: number;
  clusterSizeBytes: number;
  /** Size of the disk in the base, not above `diskSizeBytes`. */
  baseSizeBytes: number;
}

/**
 * A cluster with one changed byte is changed as a whole. Clusters behind the end of the base are unchanged where they
 * are zeros, because readers see zeros behind the end of a backing file.
 * @returns ranges of all clusters, in order; neighbours differ in kind
 */
export async function* changedClusters(input: ClustersInput): AsyncGenerator<ChangedRange> {
  const { diskSizeBytes, clusterSizeBytes } = input;
  /** The cluster that earlier extents have covered in part. */
  let open: { isChanged: boolean; isZeros: boolean } | undefined;
  let range: ChangedRange = { kind: 'unchanged', firstCluster: 0, clusterCount: 0 };

  /** Appends clusters. @returns the range in front of them, when it has ended */
  function append(kind: ChangedRange['kind'], clusterCount: number): ChangedRange | undefined {
    if (kind === range.kind || range.clusterCount === 0) {
      range = { ...range, kind, clusterCount: range.clusterCount + clusterCount };
      return undefined;
    }
    const ended = range;
    range = { kind, firstCluster: range.firstCluster + range.clusterCount, clusterCount };
    return ended;
  }

  for await (const extent of input.extents)
    for (const { offset, length, kind, isChanged } of besideBase(extent, input)) {
      const end = offset + length;
      for (let at = offset; at < end; ) {
        const within = at % clusterSizeBytes;
        const wholeClusters = within === 0 ? Math.floor((end - at) / clusterSizeBytes) : 0;
        let ended: ChangedRange | undefined;
        if (wholeClusters > 0) {
          ended = append(isChanged ? kind : 'unchanged', wholeClusters);
          at += wholeClusters * clusterSizeBytes;
        } else {
          const clusterEnd = Math.min(at - within + clusterSizeBytes, diskSizeBytes);
          open ??= { isChanged: false, isZeros: true };
          open.isChanged ||= isChanged;
          open.isZeros &&= kind === 'zeros';
          at = Math.min(end, clusterEnd);
          if (at === clusterEnd) {
            ended = append(!open.isChanged ? 'unchanged' : open.isZeros ? 'zeros' : 'data', 1);
            open = undefined;
          }
        }
        if (ended !== undefined) yield ended;
      }
    }
  if (range.clusterCount > 0) yield range;
}

/**
 * Divides an extent at the end of the base. A map calls bytes that were added to the disk unchanged, and they may be
 * anything: a volume that has grown shows what lay there before.
 */
function* besideBase(extent: ChangedExtent, { baseSizeBytes, clusterSizeBytes }: ClustersInput): Generator<ChangedExtent> {
  const end = extent.offset + extent.length;
  const lastBaseClusterEnd = alignUp(baseSizeBytes, clusterSizeBytes);
  const parts: [from: number, to: number, isChanged: boolean][] = [
    [0, baseSizeBytes, extent.isChanged],
    // The cluster in which the base ends is read: part of it is the base's, the rest may be anything.
    [baseSizeBytes, lastBaseClusterEnd, true],
    [lastBaseClusterEnd, Number.POSITIVE_INFINITY, extent.isChanged || extent.kind === 'data'],
  ];
  for (const [from, to, isChanged] of parts) {
    const start = Math.max(from, extent.offset);
    const length = Math.min(to, end) - start;
    if (length > 0) yield { ...extent, offset: start, length, isChanged };
  }
}
