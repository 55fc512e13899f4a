/** The layout of an image that is the file itself: every byte of the file, at its own offset. */

import { type AllocationMap, fullAllocationMap } from '../qcow2/write/allocation-map.ts';
import type { Layout, Run } from '../qcow2/write/layout.ts';
import type { Qcow2Options } from '../qcow2/write/options.ts';

/**
 * @param map of the file's own bytes: holes and zeros are not read again
 * @returns a layout of exactly the file's length, without metadata; its map shows the whole file as data, because all of it is sent
 */
export function createVerbatimLayout(map: AllocationMap, options: Qcow2Options): Layout {
  const sizeBytes = map.diskSizeBytes;
  return {
    isVerbatim: true,
    options,
    map: fullAllocationMap(sizeBytes, map.clusterSizeBytes),
    virtualSizeBytes: sizeBytes,
    imageSizeBytes: sizeBytes,
    dataOffset: 0,
    runs: (start, end) => runsOf(map, start, end),
    renderMetadata: () => {
      throw new RangeError('a file that is sent as it is has no metadata to render');
    },
  };
}

function* runsOf(map: AllocationMap, start: number, end: number): Generator<Run> {
  if (start >= end) return;
  const { clusterSizeBytes } = map;
  for (const { kind, firstCluster, clusterCount } of map.ranges(map.rangeOfCluster(Math.floor(start / clusterSizeBytes)))) {
    const imageOffset = Math.max(start, firstCluster * clusterSizeBytes);
    const length = Math.min(end, (firstCluster + clusterCount) * clusterSizeBytes, map.diskSizeBytes) - imageOffset;
    if (imageOffset >= end) return;
    yield kind === 'data' ? { kind, imageOffset, length, sourceOffset: imageOffset } : { kind: 'zeros', imageOffset, length };
  }
}
