/** Counting what exports do. An observer of the engine: it changes nothing about them. */

import type { Registry } from 'prom-client';
import type { Clock } from '../common/clock.ts';
import type { DiskState, ExportWatcher } from '../engine/observer.ts';
import { DESTINATIONS, RESULTS } from './catalogue.ts';
import { createRegistry } from './create-registry.ts';
import { createDiskCounts, type DiskCounts } from './disk-counts.ts';

export interface ObservedExport {
  namespace: string;
  name: string;
  destination: (typeof DESTINATIONS)[number];
}

export interface ExportMetrics {
  registry: Registry;
  /** An export begins. */
  begin(observed: ObservedExport): ExportWatcher;
}

export interface ExportMetricsOptions {
  version: string;
  clock: Clock;
  /** How long the series of an export stay when it has ended: whoever scrapes must have had the time to see the last values. */
  retentionMs: number;
  /** Aborted when nobody will ask any more. */
  signal: AbortSignal;
}

/** Phases in which bytes are read or sent all the time; what a destination or a second look takes is told by nobody. */
const IN_MOTION: ReadonlySet<DiskState['phase']> = new Set(['Scanning', 'Streaming']);

export function createExportMetrics({ version, clock, retentionMs, signal }: ExportMetricsOptions): ExportMetrics {
  const { registry, metrics } = createRegistry();
  metrics.buildInfo.set({ version }, 1);
  metrics.active.set(0);
  // A series that appears with its first failure has no rate that an alert could see.
  for (const destination of DESTINATIONS) for (const result of RESULTS) metrics.exports.inc({ destination, result }, 0);

  /** Exports that have ended and whose series are still there, by namespace and name. */
  const ended = new Map<string, { forget(): void }>();

  function begin({ namespace, name, destination }: ObservedExport): ExportWatcher {
    const key = `${namespace}/${name}`;
    const startMs = clock.monotonicMs();
    const counted = new Map<string, DiskCounts>();
    const phases = new Map<string, DiskState['phase']>();
    // The same export once more: its series begin anew, and nothing may remove them half way.
    ended.get(key)?.forget();
    metrics.active.inc();

    const labelsOf = (disk: string) => ({ export_namespace: namespace, export: name, disk });

    function update(state: DiskState): void {
      const labels = labelsOf(state.path);
      let counts = counted.get(state.path);
      if (counts === undefined) {
        counts = createDiskCounts();
        counted.set(state.path, counts);
      }
      const { scannedClusters, skippedHoles, skippedZeros, writtenData, writtenMetadata, sentBytes } = counts.advance(state);
      metrics.scannedClusters.inc(labels, scannedClusters);
      metrics.skippedClusters.inc({ ...labels, reason: 'hole' }, skippedHoles);
      metrics.skippedClusters.inc({ ...labels, reason: 'zero' }, skippedZeros);
      metrics.writtenClusters.inc({ ...labels, kind: 'data' }, writtenData);
      metrics.writtenClusters.inc({ ...labels, kind: 'metadata' }, writtenMetadata);
      metrics.sentBytes.inc(labels, sentBytes);
      metrics.progressRatio.set(labels, state.imageBytes ? state.sentBytes / state.imageBytes : 0);
      if (!IN_MOTION.has(state.phase)) metrics.lastProgress.remove(labels);
      else if (scannedClusters + sentBytes > 0 || phases.get(state.path) !== state.phase)
        metrics.lastProgress.set(labels, clock.nowMs() / 1000);
      phases.set(state.path, state.phase);
    }

    return {
      observer: {
        onChange: update,
        onProgress: update,
        onRetry: (_disk, { code }) => metrics.retries.inc({ destination, reason: code }),
      },
      end(result, failure) {
        metrics.active.dec();
        for (const disk of counted.keys()) metrics.lastProgress.remove(labelsOf(disk));
        const reason = failure?.code ?? 'Completed';
        const endLabels = { export_namespace: namespace, export: name, destination, result, reason };
        keepForAWhile(() => metrics.ended.remove(endLabels));
        if (result === 'Pending') return;
        metrics.ended.set(endLabels, clock.nowMs() / 1000);
        metrics.exports.inc({ destination, result });
        metrics.duration.observe({ destination, result }, (clock.monotonicMs() - startMs) / 1000);
      },
    };

    function keepForAWhile(forgetEnd: () => void): void {
      const entry = {
        forget() {
          forgetDisks();
          forgetEnd();
        },
      };
      ended.set(key, entry);
      clock.delay(retentionMs, signal).then(
        () => {
          if (ended.get(key) === entry) entry.forget();
        },
        () => {},
      );
    }

    function forgetDisks(): void {
      ended.delete(key);
      for (const disk of counted.keys()) {
        const labels = labelsOf(disk);
        for (const reason of ['hole', 'zero']) metrics.skippedClusters.remove({ ...labels, reason });
        for (const kind of ['data', 'metadata']) metrics.writtenClusters.remove({ ...labels, kind });
        for (const metric of [metrics.scannedClusters, metrics.sentBytes, metrics.progressRatio, metrics.lastProgress])
          metric.remove(labels);
      }
    }
  }

  return { registry, begin };
}
