/**
 * Draws the map of a disk: for each cell its shares of data and zeros. Cells are computed from the
 * ranges of the allocation map, so the cost does not grow with the size of the disk.
 */

import type { DiskState } from '../engine/observer.ts';

type DiskMap = NonNullable<DiskState['map']>;

/** Cells of equal parts of the disk, in order. The rest of a cell, neither data nor zeros, is holes. */
export interface MapPicture {
  diskBytes: number;
  clusterBytes: number;
  totalClusters: number;
  cellCount: number;
  /** For each cell its shares of data and of zeros, from 0 to 255 each, in base64. Any data at all gives at least 1. */
  shares: string;
}

/** Fine enough for a screen. A disk of fewer clusters has a cell for each. */
const MAX_CELLS = 4096;

/** In a cell with more ranges the share of zeros is estimated from a sample. The share of data is exact. */
const MAX_RANGES_PER_CELL = 64;

const pictures = new WeakMap<DiskMap, MapPicture>();

/** Each map is drawn once. */
export function drawMap(map: DiskMap): MapPicture {
  let picture = pictures.get(map);
  if (picture === undefined) {
    picture = draw(map);
    pictures.set(map, picture);
  }
  return picture;
}

function draw(map: DiskMap): MapPicture {
  const { total } = map.clusters;
  const cellCount = Math.min(total, MAX_CELLS);
  const shares = new Uint8Array(2 * cellCount);
  let dataBefore = 0;
  for (let cell = 0; cell < cellCount; cell += 1) {
    const from = firstClusterOf(cell, map, cellCount);
    const end = firstClusterOf(cell + 1, map, cellCount);
    const dataUntil = countDataBefore(map, end);
    const data = dataUntil - dataBefore;
    dataBefore = dataUntil;
    shares[2 * cell] = shareOf(data, end - from);
    shares[2 * cell + 1] = shareOf(countZeros(map, { from, end, data }), end - from);
  }
  return {
    diskBytes: map.diskSizeBytes,
    clusterBytes: map.clusterSizeBytes,
    totalClusters: total,
    cellCount,
    shares: Buffer.from(shares.buffer).toString('base64'),
  };
}

function firstClusterOf(cell: number, map: DiskMap, cellCount: number): number {
  return Math.floor((cell * map.clusters.total) / cellCount);
}

function shareOf(part: number, whole: number): number {
  return part === 0 ? 0 : Math.max(1, Math.floor((255 * part) / whole));
}

/** Data clusters before guest cluster `cluster`. */
function countDataBefore(map: DiskMap, cluster: number): number {
  if (cluster >= map.clusters.total) return map.clusters.data;
  const { kind, firstCluster, dataClustersBefore } = map.rangeAt(map.rangeOfCluster(cluster));
  return dataClustersBefore + (kind === 'data' ? cluster - firstCluster : 0);
}

/**
 * Exact, unless the cell has too many ranges; then a sample of them decides how the clusters without data divide into
 * zeros and holes.
 */
function countZeros(map: DiskMap, { from, end, data }: { from: number; end: number; data: number }): number {
  const other = end - from - data;
  if (other === 0 || map.clusters.zero === 0) return 0;
  if (map.clusters.hole === 0) return other;
  const first = map.rangeOfCluster(from);
  const last = map.rangeOfCluster(end - 1);
  const rangeCount = last - first + 1;
  const sampleCount = Math.min(rangeCount, MAX_RANGES_PER_CELL);
  let [zeros, holes] = [0, 0];
  for (let sample = 0; sample < sampleCount; sample += 1) {
    const index = first + Math.floor(((sample + (rangeCount > sampleCount ? scatter(sample) : 0)) * rangeCount) / sampleCount);
    const { kind, firstCluster, clusterCount } = map.rangeAt(index);
    const length = Math.min(firstCluster + clusterCount, end) - Math.max(firstCluster, from);
    if (kind === 'zero') zeros += length;
    else if (kind === 'hole') holes += length;
  }
  return zeros === 0 ? 0 : sampleCount === rangeCount ? zeros : Math.round((other * zeros) / (zeros + holes));
}

/** A number in [0, 1). The numbers are evenly distributed, and out of step with ranges that alternate. */
function scatter(sample: number): number {
  return (sample * 0.618_033_988_749_895) % 1;
}

/**
 * The guest cluster before which all data has been sent. The image has data in the order of the disk, so there is one
 * such cluster.
 * @param written data clusters that were sent
 */
export function sentUntilCluster(map: DiskMap, written: number): number {
  const { total, data } = map.clusters;
  if (written >= data) return total;
  if (written === 0) return 0;
  const { firstCluster, dataClustersBefore } = map.rangeAt(map.rangeOfDataCluster(written));
  return firstCluster + written - dataClustersBefore;
}
