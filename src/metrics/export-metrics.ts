/** Counting what exports do. An observer of the engine: it changes nothing about them. */

import { collectDefaultMetrics } from 'prom-client';
import type { Clock } from '../common/clock.ts';
import type { DiskState, ExportWatcher } from '../engine/observer.ts';
import type { DestinationName } from '../resource/destination-kinds.ts';
import { createRegistry } from './create-registry.ts';
import { createDiskSeries, type DiskSeries } from './disk-series.ts';
import { createLastSuccess } from './last-success.ts';
import { createRetention } from './retention.ts';
import { type Scrape, scrapeRegistry } from './scrape.ts';
import type { ScrapeFormat } from './scrape-format.ts';

interface ObservedExport {
  namespace: string;
  name: string;
  destination: DestinationName;
}

/** The exports that there are, whichever process runs them. */
export interface ExportCensus {
  /** Of the claims that this process serves. */
  pending: number;
  unclaimed: number;
  /** Of the claims that this process serves. */
  successes: Iterable<{ namespace: string; claim: string; timeMs: number }>;
}

export interface ExportMetrics {
  scrape(format: ScrapeFormat): Promise<Scrape>;
  /** An export begins. */
  begin(observed: ObservedExport): ExportWatcher;
  /** When it was last known which requests there are, in milliseconds since the epoch; 0 before it was known at all. */
  watchSucceeded(timeMs: number): void;
  /** A claim that is served has a time of its last success from the start. */
  serves(namespace: string, claim: string): void;
  count(census: ExportCensus): void;
}

export interface ExportMetricsOptions {
  version: string;
  clock: Clock;
  /** How long the series of an export stay when it has ended: whoever scrapes must have had the time to see the last values. */
  retentionMs: number;
  /** Also counts what the process takes: memory, CPU time, descriptors, the delay of the event loop. For one registry a process. */
  ofProcess?: boolean;
  /** Aborted when nobody will ask any more. */
  signal: AbortSignal;
}

/** Gauges of prom-client that are named as if they were counters. Each is the sum of another metric. */
const MISNAMED = ['handles', 'requests', 'resources'].map((what) => `nodejs_active_${what}_total`);

export function createExportMetrics(options: ExportMetricsOptions): ExportMetrics {
  const { version, clock, ofProcess = false } = options;
  const { registry, metrics } = createRegistry();
  metrics.buildInfo.set({ version }, 1);
  if (ofProcess) {
    collectDefaultMetrics({ register: registry });
    for (const name of MISNAMED) registry.removeSingleMetric(name);
  }
  const running = new Set<DiskSeries>();
  const lastSuccess = createLastSuccess(metrics);
  const ended = createRetention(options);

  function begin({ namespace, name, destination }: ObservedExport): ExportWatcher {
    const key = `${namespace}/${name}`;
    const startMs = clock.monotonicMs();
    const disks = new Map<string, DiskSeries>();
    // The same export once more: its series begin anew, and nothing may remove them half way.
    ended.forget(key);
    metrics.active.inc();

    function seriesOf(state: DiskState): DiskSeries {
      let series = disks.get(state.path);
      if (series === undefined) {
        const labels = { export_namespace: namespace, export: name, disk: state.path };
        series = createDiskSeries(metrics, { labels, destination, state, clock });
        disks.set(state.path, series);
        running.add(series);
      }
      return series;
    }

    return {
      observer: {
        onChange: (state) => seriesOf(state).update(),
        onProgress: (state) => seriesOf(state).moved(),
        onRetry: (_disk, { code }) => metrics.retries.inc({ destination, reason: code }),
      },
      end(result, failure) {
        metrics.active.dec();
        for (const series of disks.values()) {
          series.update();
          series.end();
          running.delete(series);
        }
        const reason = failure?.code ?? 'Completed';
        const endLabels = { export_namespace: namespace, export: name, destination, result, reason };
        ended.keep(key, disks.size, () => {
          for (const series of disks.values()) series.forget();
          metrics.ended.remove(endLabels);
        });
        if (result === 'Pending') return;
        metrics.ended.set(endLabels, clock.nowMs() / 1000);
        metrics.exports.inc({ destination, result });
        metrics.duration.observe({ destination, result }, (clock.monotonicMs() - startMs) / 1000);
      },
    };
  }

  return {
    scrape(format) {
      for (const series of running) series.update();
      return scrapeRegistry(registry, format);
    },
    begin,
    watchSucceeded: (timeMs) => metrics.watchLastSuccess.set(timeMs / 1000),
    serves: (namespace, claim) => lastSuccess.set({ namespace, claim, timeMs: 0 }),
    count({ pending, unclaimed, successes }) {
      metrics.pending.set(pending);
      metrics.unclaimed.set(unclaimed);
      for (const success of successes) lastSuccess.set(success);
    },
  };
}
