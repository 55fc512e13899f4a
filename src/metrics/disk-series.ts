/** The series of one disk. They are updated at a scrape, so that counting costs nothing while bytes move. */

import type { Clock } from '../common/clock.ts';
import { countClusters, type DiskState } from '../engine/observer.ts';
import type { DestinationName } from '../resource/destination-kinds.ts';
import { CLUSTER_KINDS, type Metrics, SKIP_REASONS } from './catalogue.ts';

export interface DiskSeries {
  /** Bytes were scanned or sent. Called often. */
  moved(): void;
  /** Counts the progress of the disk: at each change of its phase, and before a scrape. */
  update(): void;
  /** The run of the export has ended. */
  end(): void;
  /** Removes the series. */
  forget(): void;
}

interface DiskLabels {
  export_namespace: string;
  export: string;
  disk: string;
}

/** Phases in which bytes move all the time. While a destination or a second read verifies, no progress is reported. */
const IN_MOTION: ReadonlySet<DiskState['phase']> = new Set(['Scanning', 'Streaming']);

interface DiskSeriesOptions {
  labels: DiskLabels;
  destination: DestinationName;
  /** Changes during the export. */
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

interface DiskProgress {
  scannedClusters: number;
  skipped: Readonly<Record<(typeof SKIP_REASONS)[number], number>>;
  written: Readonly<Record<(typeof CLUSTER_KINDS)[number], number>>;
  readBytes: number;
  sentBytes: number;
}

interface DiskCounts {
  /** Called at least once an attempt, before the next one begins. @returns progress since the last call */
  advance(state: DiskState): DiskProgress;
}

/** Growth of a number that may be reset to 0. */
function createGrowth(): (value: number) => number {
  let last = 0;
  return (value) => {
    const growth = value < last ? value : value - last;
    last = value;
    return growth;
  };
}

/** Counters only grow, while the state of a disk begins again with each attempt. */
function createDiskCounts(): DiskCounts {
  const [scanned, data, metadata] = [createGrowth(), createGrowth(), createGrowth()] as const;
  const [read, sent] = [createGrowth(), createGrowth()] as const;
  let counted: DiskState['map'];

  return {
    advance(state) {
      const { readBytes, sentBytes, map } = state;
      const counts = countClusters(state);
      // Each scan classifies the clusters again, so a new map counts in full.
      const found = map === counted ? undefined : map?.clusters;
      counted = map;
      return {
        scannedClusters: scanned(counts.scanned),
        skipped: { hole: found?.hole ?? 0, zero: found?.zero ?? 0 },
        written: { data: data(counts.written), metadata: metadata(counts.writtenMetadata) },
        readBytes: read(readBytes),
        sentBytes: sent(sentBytes),
      };
    },
  };
}
