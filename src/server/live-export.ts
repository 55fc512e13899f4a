/** An export that runs in this process: its disks as the observer of the run sees them. */

import { printable } from '../common/text.ts';
import { countClusters, type DiskState, type ExportObserver, receiptFacts } from '../engine/observer.ts';
import type { DiskStatus } from '../resource/disk-export.ts';
import { drawMap, type MapPicture, sentUntilCluster } from './draw-map.ts';
import { hintOf } from './reason-hints.ts';

/** A disk as the API and the page show it. Sizes are bytes. */
export interface DiskView extends Omit<DiskStatus, 'upload' | 'format' | 'phase' | 'sentBytes' | 'attempts'> {
  phase: DiskState['phase'];
  sentBytes: number;
  attempts: number;
  /** Advice about the reason. */
  hint?: string;
  /** In the last scan. */
  scannedBytes?: number;
  /** Scanned or sent. */
  bytesPerSecond?: number;
  /** Present when the disk has a map: guest cluster before which all data has been sent. */
  sentUntilCluster?: number;
}

/** The map of a disk, and the guest cluster before which all data had been sent at the time of the call. */
export interface DiskMapView extends MapPicture {
  sentUntilCluster: number;
}

export interface LiveExport {
  observer: ExportObserver;
  disks(): DiskView[];
  /** Undefined when this process has not scanned the disk. */
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

  function observe(state: DiskState): void {
    let disk = disks.get(state.path);
    // Each phase moves another number of bytes.
    if (disk === undefined || disk.phase !== state.phase) {
      disk = { state, phase: state.phase, meter: createRateMeter(monotonicMs) };
      disks.set(state.path, disk);
    }
    const bytes = movedBytes(state);
    if (bytes !== undefined) disk.meter.sample(bytes);
    onChange();
  }

  return {
    observer: { onChange: observe, onProgress: observe, onRetry: observe, onWait: observe },
    disks: () => [...disks.values()].map(({ state, meter }) => diskViewOf(state, meter)),
    mapOf(path) {
      const state = disks.get(path)?.state;
      if (state?.map === undefined) return undefined;
      return { ...drawMap(state.map), sentUntilCluster: sentUntilCluster(state.map, countClusters(state).written) };
    },
    paths: () => disks.keys(),
  };
}

/** The number of bytes that grows in this phase. */
function movedBytes({ phase, scannedBytes, sentBytes }: DiskState): number | undefined {
  return phase === 'Scanning' ? scannedBytes : phase === 'Streaming' ? sentBytes : undefined;
}

function diskViewOf(disk: DiskState, meter: RateMeter): DiskView {
  const { path, phase, virtualBytes, imageBytes, sentBytes, scannedBytes, attempts, failure, receipt, map } = disk;
  const { total, scanned, skipped, written } = countClusters(disk);
  const bytes = movedBytes(disk);
  const bytesPerSecond = bytes === undefined ? undefined : meter.perSecond(bytes);
  const hint = hintOf(failure?.code);
  return {
    path,
    phase,
    sentBytes,
    scannedBytes,
    attempts,
    ...(virtualBytes === undefined ? {} : { virtualBytes, clusters: { total, scanned, skipped, written } }),
    ...(imageBytes === undefined ? {} : { imageBytes }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    ...(receipt === undefined ? {} : receiptFacts(receipt)),
    ...(failure === undefined || phase === 'Succeeded' ? {} : { reason: failure.code, message: printable(failure.message) }),
    ...(hint === undefined || phase === 'Succeeded' ? {} : { hint }),
    ...(map === undefined ? {} : { sentUntilCluster: sentUntilCluster(map, written) }),
  };
}

interface RateMeter {
  /** Called often; reads the clock once a call. */
  sample(value: number): void;
  /** @returns growth a second over the last seconds; undefined while it is not known */
  perSecond(value: number): number | undefined;
}

const SAMPLE_MS = 500;
const MAX_SAMPLES = 20;
/** A rate over a shorter time is mostly chance. */
const MIN_RATE_MS = 1000;

function createRateMeter(monotonicMs: () => number): RateMeter {
  let samples: { ms: number; value: number }[] = [];

  return {
    sample(value) {
      const ms = monotonicMs();
      const last = samples.at(-1);
      // A new attempt begins at 0.
      if (last !== undefined && value < last.value) samples = [];
      else if (last !== undefined && ms - last.ms < SAMPLE_MS) return;
      samples.push({ ms, value });
      if (samples.length > MAX_SAMPLES) samples.shift();
    },
    perSecond(value) {
      const [oldest] = samples;
      if (oldest === undefined || value < oldest.value) return undefined;
      const elapsedMs = monotonicMs() - oldest.ms;
      return elapsedMs < MIN_RATE_MS ? undefined : ((value - oldest.value) * 1000) / elapsedMs;
    },
  };
}
