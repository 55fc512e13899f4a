/** One export that runs in this process, as its observer sees it. */

import { countClusters, type DiskState, type ExportObserver } from '../engine/observer.ts';
import { type DiskView, diskViewOf, movedBytes } from './disk-view.ts';
import { drawMap, type MapPicture, sentUntilCluster } from './draw-map.ts';
import { createRateMeter, type RateMeter } from './rate-meter.ts';

/** The picture of a disk, and how far all data of it was sent when it was asked for, in guest clusters. */
export interface DiskMapView extends MapPicture {
  sentUntilCluster: number;
}

export interface LiveExport {
  observer: ExportObserver;
  disks(): DiskView[];
  /** Undefined where the disk has not been scanned here. */
  mapOf(path: string): DiskMapView | undefined;
  paths(): Iterable<string>;
}

interface LiveDisk {
  state: DiskState;
  phase: DiskState['phase'];
  meter: RateMeter;
}

/** @param onChange called often */
export function createLiveExport(monotonicMs: () => number, onChange: () => void): LiveExport {
  const disks = new Map<string, LiveDisk>();

  function note(state: DiskState): void {
    let disk = disks.get(state.path);
    // In each phase something else grows.
    if (disk === undefined || disk.phase !== state.phase) {
      disk = { state, phase: state.phase, meter: createRateMeter(monotonicMs) };
      disks.set(state.path, disk);
    }
    const bytes = movedBytes(state);
    if (bytes !== undefined) disk.meter.note(bytes);
    onChange();
  }

  return {
    observer: { onChange: note, onProgress: note, onRetry: note, onWait: note },
    disks: () => [...disks.values()].map(({ state, meter }) => diskViewOf(state, meter)),
    mapOf(path) {
      const state = disks.get(path)?.state;
      if (state?.map === undefined) return undefined;
      return { ...drawMap(state.map), sentUntilCluster: sentUntilCluster(state.map, countClusters(state).written) };
    },
    paths: () => disks.keys(),
  };
}
