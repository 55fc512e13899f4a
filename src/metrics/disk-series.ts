/** The series of one disk: brought up to date when somebody looks, so that counting costs nothing while bytes move. */

import type { Clock } from '../common/clock.ts';
import type { DiskState } from '../engine/observer.ts';
import type { Metrics } from './create-registry.ts';
import { createDiskCounts } from './disk-counts.ts';

export interface DiskSeries {
  /** Bytes were scanned or sent. Called for each piece of them. */
  moved(): void;
  /** Takes over how far the disk is: at each change of its phase, and before a scrape. */
  update(): void;
  /** Nothing more will move. */
  end(): void;
  /** Removes the series. */
  forget(): void;
}

export interface DiskLabels {
  export_namespace: string;
  export: string;
  disk: string;
}

/** Phases in which bytes are read or sent all the time; what a destination or a second look takes is told by nobody. */
const IN_MOTION: ReadonlySet<DiskState['phase']> = new Set(['Scanning', 'Streaming']);

/** @param state changes as the export goes on */
export function createDiskSeries(metrics: Metrics, labels: DiskLabels, state: DiskState, clock: Clock): DiskSeries {
  const counts = createDiskCounts();
  let phase: DiskState['phase'] | undefined;
  let movedMs = 0;
  let knownBytes = 0;

  function moved(): void {
    const bytes = state.scannedBytes + state.sentBytes;
    if (bytes === knownBytes) return;
    knownBytes = bytes;
    movedMs = clock.nowMs();
  }

  return {
    moved,
    update() {
      moved();
      if (phase !== state.phase) movedMs = clock.nowMs();
      phase = state.phase;
      const progress = counts.advance(state);
      metrics.scannedClusters.inc(labels, progress.scannedClusters);
      metrics.skippedClusters.inc({ ...labels, reason: 'hole' }, progress.skippedHoles);
      metrics.skippedClusters.inc({ ...labels, reason: 'zero' }, progress.skippedZeros);
      metrics.writtenClusters.inc({ ...labels, kind: 'data' }, progress.writtenData);
      metrics.writtenClusters.inc({ ...labels, kind: 'metadata' }, progress.writtenMetadata);
      metrics.sourceReadBytes.inc(labels, progress.readBytes);
      metrics.sentBytes.inc(labels, progress.sentBytes);
      metrics.progressRatio.set(labels, state.imageBytes ? state.sentBytes / state.imageBytes : 0);
      if (IN_MOTION.has(phase)) metrics.lastProgress.set(labels, movedMs / 1000);
      else metrics.lastProgress.remove(labels);
    },
    end: () => metrics.lastProgress.remove(labels),
    forget() {
      for (const reason of ['hole', 'zero']) metrics.skippedClusters.remove({ ...labels, reason });
      for (const kind of ['data', 'metadata']) metrics.writtenClusters.remove({ ...labels, kind });
      const { scannedClusters, sourceReadBytes, sentBytes, progressRatio, lastProgress } = metrics;
      for (const metric of [scannedClusters, sourceReadBytes, sentBytes, progressRatio, lastProgress]) metric.remove(labels);
    },
  };
}
