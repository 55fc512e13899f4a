/** The layouts of an image: the disk converted to qcow2, or the file's own bytes. */

import { type AllocationMap, fullAllocationMap } from '../qcow2/write/allocation-map.ts';
import { createLayout, type Layout, type Run } from '../qcow2/write/layout.ts';
import type { Qcow2Options } from '../qcow2/write/options.ts';
import { checkL1TableSize } from '../qcow2/write/placement.ts';

/** 'Converted': the disk as qcow2; 'Verbatim': the file's own bytes, whatever its format. */
export type ImageLayout = 'Converted' | 'Verbatim';

interface LayoutRules {
  /**
   * Checks before the scan whether an image can hold the disk.
   * @throws DiskliftError `ImageTooLarge` that names the smallest cluster size that works
   */
  checkDiskSize(diskSizeBytes: number, options: Qcow2Options): void;
  create(map: AllocationMap, options: Qcow2Options): Layout;
  /** Whether the image leaves out clusters of zeros, so that the scan must find them. */
  dropsZeros: boolean;
}

export const IMAGE_LAYOUTS = {
  Converted: {
    checkDiskSize: (diskSizeBytes, { clusterSizeBytes }) => checkL1TableSize(diskSizeBytes, clusterSizeBytes),
    create: createLayout,
    dropsZeros: true,
  },
  Verbatim: { checkDiskSize: () => {}, create: createVerbatimLayout, dropsZeros: false },
} as const satisfies Record<ImageLayout, LayoutRules>;

/**
 * @param map of the file's own bytes: holes and zeros are not read again
 * @returns a layout of exactly the file's length, without metadata. Its map shows the whole file as data, because all
 * of it is sent
 */
function createVerbatimLayout(map: AllocationMap, options: Qcow2Options): Layout {
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
