/** The series of one disk: brought up to date when somebody looks, so that counting costs nothing while bytes move. */

import type { Clock } from '../common/clock.ts';
import type { DiskState } from '../engine/observer.ts';
import type { DestinationName } from '../resource/destination-kinds.ts';
import { CLUSTER_KINDS, SKIP_REASONS } from './catalogue.ts';
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

interface DiskLabels {
  export_namespace: string;
  export: string;
  disk: string;
}

/** Phases in which bytes are read or sent all the time; what a destination or a second look takes is told by nobody. */
const IN_MOTION: ReadonlySet<DiskState['phase']> = new Set(['Scanning', 'Streaming']);

interface DiskSeriesOptions {
  labels: DiskLabels;
  destination: DestinationName;
  /** Live state that changes during the export. */
  state: DiskState;
  clock: Clock;
}

export function createDiskSeries(metrics: Metrics, { labels, destination, state, clock }: DiskSeriesOptions): DiskSeries {
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
      metrics.destinationScannedClusters.inc({ destination }, progress.scannedClusters);
      for (const reason of SKIP_REASONS) {
        metrics.skippedClusters.inc({ ...labels, reason }, progress.skipped[reason]);
        metrics.destinationSkippedClusters.inc({ destination, reason }, progress.skipped[reason]);
      }
      for (const kind of CLUSTER_KINDS) {
        metrics.writtenClusters.inc({ ...labels, kind }, progress.written[kind]);
        metrics.destinationWrittenClusters.inc({ destination, kind }, progress.written[kind]);
      }
      metrics.sourceReadBytes.inc(labels, progress.readBytes);
      metrics.destinationSourceReadBytes.inc({ destination }, progress.readBytes);
      metrics.sentBytes.inc(labels, progress.sentBytes);
      metrics.destinationSentBytes.inc({ destination }, progress.sentBytes);
      metrics.progressRatio.set(labels, state.imageBytes ? state.sentBytes / state.imageBytes : 0);
      if (IN_MOTION.has(phase)) metrics.lastProgress.set(labels, movedMs / 1000);
      else metrics.lastProgress.remove(labels);
    },
    end: () => metrics.lastProgress.remove(labels),
    forget() {
      for (const reason of SKIP_REASONS) metrics.skippedClusters.remove({ ...labels, reason });
      for (const kind of CLUSTER_KINDS) metrics.writtenClusters.remove({ ...labels, kind });
      const { scannedClusters, sourceReadBytes, sentBytes, progressRatio, lastProgress } = metrics;
      for (const metric of [scannedClusters, sourceReadBytes, sentBytes, progressRatio, lastProgress]) metric.remove(labels);
    },
  };
}
