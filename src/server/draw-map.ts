/**
 * A picture of a disk: so many cells, and what each holds. It is computed from the ranges of the allocation map, at the picture's
 * resolution: a disk of 16 TiB costs what a small one does.
 */

import type { DiskState } from '../engine/observer.ts';

type DiskMap = NonNullable<DiskState['map']>;

/** Of equal stretches of the disk, in order. A cell's holes are what is neither data nor zeros. */
export interface MapPicture {
  diskBytes: number;
  clusterBytes: number;
  totalClusters: number;
  cellCount: number;
  /** For each cell its shares of data and of zeros, from 0 to 255 each, in base64. Anything at all is at least 1. */
  shares: string;
}

/** Fine enough for a screen. A disk of fewer clusters has a cell for each. */
const MOST_CELLS = 4096;

/** Of a cell with more ranges, zeros are told from holes by a sample. Data is exact. */
const MOST_RANGES_A_CELL = 64;

const pictures = new WeakMap<DiskMap, MapPicture>();

/** A map is drawn once. */
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
  const cellCount = Math.min(total, MOST_CELLS);
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

/** Data clusters in front of guest cluster `cluster`. */
function countDataBefore(map: DiskMap, cluster: number): number {
  if (cluster >= map.clusters.total) return map.clusters.data;
  const { kind, firstCluster, dataClustersBefore } = map.rangeAt(map.rangeOfCluster(cluster));
  return dataClustersBefore + (kind === 'data' ? cluster - firstCluster : 0);
}

/** Exact, or where there are too many ranges in the cell, what is not data is split as a sample of it is. */
function countZeros(map: DiskMap, { from, end, data }: { from: number; end: number; data: number }): number {
  const other = end - from - data;
  if (other === 0 || map.clusters.zero === 0) return 0;
  if (map.clusters.hole === 0) return other;
  const first = map.rangeOfCluster(from);
  const last = map.rangeOfCluster(end - 1);
  const rangeCount = last - first + 1;
  const looks = Math.min(rangeCount, MOST_RANGES_A_CELL);
  let [zeros, holes] = [0, 0];
  for (let look = 0; look < looks; look += 1) {
    const index = first + Math.floor(((look + (rangeCount > looks ? scatter(look) : 0)) * rangeCount) / looks);
    const { kind, firstCluster, clusterCount } = map.rangeAt(index);
    const length = Math.min(firstCluster + clusterCount, end) - Math.max(firstCluster, from);
    if (kind === 'zero') zeros += length;
    else if (kind === 'hole') holes += length;
  }
  return zeros === 0 ? 0 : looks === rangeCount ? zeros : Math.round((other * zeros) / (zeros + holes));
}

/** From 0 up to, and not with, 1: evenly, but in no step with ranges that alternate. */
function scatter(look: number): number {
  return (look * 0.618_033_988_749_895) % 1;
}

/**
 * How far the sent data reaches on the disk, in guest clusters. The image has data in the order of the disk, so it is one place.
 * @param written data clusters that were sent
 */
export function sentUntilCluster(map: DiskMap, written: number): number {
  const { total, data } = map.clusters;
  if (written >= data) return total;
  if (written === 0) return 0;
  const { firstCluster, dataClustersBefore } = map.rangeAt(map.rangeOfDataCluster(written));
  return firstCluster + written - dataClustersBefore;
}
