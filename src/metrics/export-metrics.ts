/** Counts exports. Observes the engine and never changes an export. */

import type { Clock } from '../common/clock.ts';
import type { DiskState, ExportWatcher } from '../engine/observer.ts';
import type { DestinationName } from '../resource/destination-kinds.ts';
import { createRegistry, type Metrics } from './catalogue.ts';
import { createDiskSeries, type DiskSeries } from './disk-series.ts';
import { measureProcess } from './process-metrics.ts';
import { type Scrape, type ScrapeFormat, scrapeRegistry } from './scrape.ts';

interface ObservedExport {
  namespace: string;
  name: string;
  destination: DestinationName;
}

/** Counts of all exports, also those that other processes run. */
export interface ExportCensus {
  /** Exports of claims that this process serves. */
  pending: number;
  unclaimed: number;
  /** Succeeded exports of claims that this process serves. */
  successes: Iterable<{ namespace: string; claim: string; timeMs: number }>;
}

export interface ExportMetrics {
  scrape(format: ScrapeFormat): Promise<Scrape>;
  /** A run of an export begins. */
  begin(observed: ObservedExport): ExportWatcher;
  /** @param timeMs when the list of requests was last up to date, in milliseconds since the epoch; 0: never */
  watchSucceeded(timeMs: number): void;
  /** Makes the series of the last success of a claim exist from the start. */
  serves(namespace: string, claim: string): void;
  count(census: ExportCensus): void;
}

export interface ExportMetricsOptions {
  version: string;
  clock: Clock;
  /** How long the series of an ended export stay, so that a scrape sees the last values. */
  retentionMs: number;
  /** Also measures the process: memory, CPU time, descriptors, event loop delay. Only for one registry of a process. */
  ofProcess?: boolean;
  /** Aborted after the last scrape. */
  signal: AbortSignal;
}

export function createExportMetrics(options: ExportMetricsOptions): ExportMetrics {
  const { version, clock, ofProcess = false } = options;
  const { registry, metrics } = createRegistry();
  metrics.buildInfo.set({ version }, 1);
  if (ofProcess) measureProcess(registry);
  const running = new Set<DiskSeries>();
  const lastSuccess = createLastSuccess(metrics);
  const ended = createRetention(options);

  function begin({ namespace, name, destination }: ObservedExport): ExportWatcher {
    const key = `${namespace}/${name}`;
    const startMs = clock.monotonicMs();
    const disks = new Map<string, DiskSeries>();
    // The series of another run of the export begin anew. A timer of the earlier run must not remove them.
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

    /** The last change of a disk comes once. */
    function countImage({ imageType, changedBytes = 0 }: DiskState): void {
      if (imageType === undefined) return;
      const { type, reason } = imageType;
      metrics.images.inc({ destination, type, reason });
      if (type === 'Incremental') metrics.changedBytes.inc({ destination }, changedBytes);
    }

    return {
      observer: {
        onChange(state) {
          seriesOf(state).update();
          if (state.phase === 'Succeeded') countImage(state);
        },
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

interface Success {
  namespace: string;
  claim: string;
  /** Milliseconds since the epoch. */
  timeMs: number;
}

interface LastSuccess {
  /** Ignores a success that is not later than the known one. */
  set(success: Success): void;
}

/** The last success of each claim. It outlives the DiskExport, which may be deleted. */
function createLastSuccess({ lastSuccess }: Pick<Metrics, 'lastSuccess'>): LastSuccess {
  const known = new Map<string, number>();

  return {
    set({ namespace, claim, timeMs }) {
      const key = `${namespace}/${claim}`;
      if (timeMs <= (known.get(key) ?? -1)) return;
      known.set(key, timeMs);
      lastSuccess.set({ export_namespace: namespace, claim }, timeMs / 1000);
    },
  };
}

interface Retention {
  /** @param size number of disks @param forget called once, after `retentionMs` or when there are too many series */
  keep(key: string, size: number, forget: () => void): void;
  /** Calls `forget` of the key now, if it is kept. */
  forget(key: string): void;
}

interface RetentionOptions {
  clock: Clock;
  retentionMs: number;
  signal: AbortSignal;
}

/** Disks of ended exports, with eight series each: more would make scrapes too large. */
const MAX_DISKS = 1000;

/** Keeps series of ended exports for a limited time, and a limited number of them. */
function createRetention({ clock, retentionMs, signal }: RetentionOptions): Retention {
  /** The oldest first. */
  const kept = new Map<string, { size: number; forget(): void }>();
  let keptSize = 0;

  function forget(key: string): void {
    const entry = kept.get(key);
    if (entry === undefined) return;
    kept.delete(key);
    keptSize -= entry.size;
    entry.forget();
  }

  return {
    forget,
    keep(key, size, forgetIt) {
      forget(key);
      const entry = { size: Math.max(1, size), forget: forgetIt };
      kept.set(key, entry);
      keptSize += entry.size;
      for (const oldest of kept.keys()) if (keptSize > MAX_DISKS && oldest !== key) forget(oldest);
      clock.delay(retentionMs, signal).then(
        () => {
          if (kept.get(key) === entry) forget(key);
        },
        () => {},
      );
    },
  };
}
