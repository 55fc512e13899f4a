/**
 * Declares every metric once, and creates the registry. Names and units follow
 * https://prometheus.io/docs/practices/naming/.
 */

import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { BASE_FAILURES } from '../common/errors.ts';
import { DESTINATION_NAMES } from '../resource/destination-kinds.ts';

export interface MetricDeclaration {
  type: 'counter' | 'gauge' | 'histogram';
  /** Without the prefix. */
  name: string;
  help: string;
  /** The name ends with the unit, before `_total`, if it is one of Prometheus' units. */
  unit: string;
  labels: readonly string[];
  /** Upper bounds of a histogram. */
  buckets?: readonly number[];
}

export const METRIC_PREFIX = 'disklift_';

/** `export_namespace`, because `namespace` is the scraped pod's own label. */
const DISK_LABELS = ['export_namespace', 'export', 'disk'] as const;

/** 1 s to 24 h. */
const DURATION_BUCKETS_SECONDS = [1, 5, 15, 60, 300, 900, 3600, 10_800, 43_200, 86_400];

export const METRICS = {
  scannedClusters: {
    type: 'counter',
    name: 'scanned_clusters_total',
    help: 'Clusters that the scan has classified as hole, zero or data.',
    unit: 'clusters',
    labels: DISK_LABELS,
  },
  skippedClusters: {
    type: 'counter',
    name: 'skipped_clusters_total',
    help: 'Clusters that are not in the image, because they lie in a hole or hold only zeros.',
    unit: 'clusters',
    labels: [...DISK_LABELS, 'reason'],
  },
  writtenClusters: {
    type: 'counter',
    name: 'written_clusters_total',
    help: 'Clusters of the image that were sent: data of the disk, or metadata of the format.',
    unit: 'clusters',
    labels: [...DISK_LABELS, 'kind'],
  },
  sourceReadBytes: {
    type: 'counter',
    name: 'source_read_bytes_total',
    help: 'Bytes that were read from the disk: for the scan, to send them, and to verify them.',
    unit: 'bytes',
    labels: DISK_LABELS,
  },
  sentBytes: {
    type: 'counter',
    name: 'sent_bytes_total',
    help: 'Bytes of images that were sent, in all attempts.',
    unit: 'bytes',
    labels: DISK_LABELS,
  },
  destinationScannedClusters: {
    type: 'counter',
    name: 'destination_scanned_clusters_total',
    help: 'Clusters that were scanned for all exports to a destination. The series exists from the start, so that a rate includes short exports.',
    unit: 'clusters',
    labels: ['destination'],
  },
  destinationSkippedClusters: {
    type: 'counter',
    name: 'destination_skipped_clusters_total',
    help: 'Clusters that are not in the images for a destination, by reason. The series exists from the start.',
    unit: 'clusters',
    labels: ['destination', 'reason'],
  },
  destinationWrittenClusters: {
    type: 'counter',
    name: 'destination_written_clusters_total',
    help: 'Clusters that were sent to a destination, by kind. The series exists from the start.',
    unit: 'clusters',
    labels: ['destination', 'kind'],
  },
  destinationSourceReadBytes: {
    type: 'counter',
    name: 'destination_source_read_bytes_total',
    help: 'Bytes that were read from the disks of all exports to a destination. The series exists from the start.',
    unit: 'bytes',
    labels: ['destination'],
  },
  destinationSentBytes: {
    type: 'counter',
    name: 'destination_sent_bytes_total',
    help: 'Bytes of images that were sent to a destination, in all attempts. The series exists from the start.',
    unit: 'bytes',
    labels: ['destination'],
  },
  progressRatio: {
    type: 'gauge',
    name: 'export_progress_ratio',
    help: 'Share of the image that the current attempt has sent, from 0 to 1.',
    unit: 'ratio',
    labels: DISK_LABELS,
  },
  lastProgress: {
    type: 'gauge',
    name: 'export_last_progress_timestamp_seconds',
    help: 'Time in seconds since the epoch at which bytes of the disk were last scanned or sent. The series exists only while the disk is scanned or sent.',
    unit: 'seconds',
    labels: DISK_LABELS,
  },
  ended: {
    type: 'gauge',
    name: 'export_end_timestamp_seconds',
    help: 'Time in seconds since the epoch at which the export ended. The labels have its result and the reason of a failure.',
    unit: 'seconds',
    labels: ['export_namespace', 'export', 'destination', 'result', 'reason'],
  },
  retries: {
    type: 'counter',
    name: 'retries_total',
    help: 'Attempts that failed and were retried, by the reason of the failure.',
    unit: 'attempts',
    labels: ['destination', 'reason'],
  },
  images: {
    type: 'counter',
    name: 'images_total',
    help: 'Images of exports with spec.incremental that have arrived, by their type and the reason for it. A full image that is no FirstImage is a fallback.',
    unit: 'images',
    labels: ['destination', 'type', 'reason'],
  },
  changedBytes: {
    type: 'counter',
    name: 'incremental_changed_bytes_total',
    help: 'Bytes of disks that incremental images hold, zeros included.',
    unit: 'bytes',
    labels: ['destination'],
  },
  exports: {
    type: 'counter',
    name: 'exports_total',
    help: 'Exports that have ended.',
    unit: 'exports',
    labels: ['destination', 'result'],
  },
  duration: {
    type: 'histogram',
    name: 'export_duration_seconds',
    help: 'Time from the start of an export to its end.',
    unit: 'seconds',
    labels: ['destination', 'result'],
    buckets: DURATION_BUCKETS_SECONDS,
  },
  active: {
    type: 'gauge',
    name: 'exports_active',
    help: 'Exports that run now, or have begun and wait for a disk in use.',
    unit: 'exports',
    labels: [],
  },
  pending: {
    type: 'gauge',
    name: 'exports_pending',
    help: 'Exports of claims that this process serves and that wait: for a slot, for a disk in use, or for their next attempt.',
    unit: 'exports',
    labels: [],
  },
  unclaimed: {
    type: 'gauge',
    name: 'exports_unclaimed',
    help: 'Exports in the namespace that no process has claimed. All sidecars of a namespace report the same number: use max, not sum.',
    unit: 'exports',
    labels: [],
  },
  lastSuccess: {
    type: 'gauge',
    name: 'last_success_timestamp_seconds',
    help: 'Time in seconds since the epoch at which the last successful export of a claim ended. 0: this process has seen none.',
    unit: 'seconds',
    labels: ['export_namespace', 'claim'],
  },
  watchLastSuccess: {
    type: 'gauge',
    name: 'watch_last_success_timestamp_seconds',
    help: 'Time in seconds since the epoch at which the list of requests was last up to date. 0: not yet.',
    unit: 'seconds',
    labels: [],
  },
  buildInfo: {
    type: 'gauge',
    name: 'build_info',
    help: 'Always 1. The label has the version.',
    unit: '1',
    labels: ['version'],
  },
} as const satisfies Record<string, MetricDeclaration>;

export const SKIP_REASONS = ['hole', 'zero'] as const;
export const CLUSTER_KINDS = ['data', 'metadata'] as const;
const RESULTS = ['Succeeded', 'Failed', 'Cancelled'] as const;

/** Reasons of failures after which an attempt is retried. */
const RETRY_REASONS = ['SourceReadError', 'SourceChanged', 'DestinationUnreachable', 'DestinationRejected', 'ChecksumMismatch'] as const;

/** Reasons of each type of image. */
const IMAGE_REASONS = {
  Full: ['FirstImage', ...BASE_FAILURES],
  Incremental: ['BlockHashes', 'SnapshotMetadata', 'VirtualMachineBackup'],
} as const;

/** The prom-client metric of a declaration. */
type MetricOf<D> = D extends { type: 'counter'; labels: readonly (infer Label extends string)[] }
  ? Counter<Label>
  : D extends { type: 'gauge'; labels: readonly (infer Label extends string)[] }
    ? Gauge<Label>
    : D extends { type: 'histogram'; labels: readonly (infer Label extends string)[] }
      ? Histogram<Label>
      : never;

type Declarations = Readonly<Record<string, MetricDeclaration>>;

export type MetricsOf<D extends Declarations> = { readonly [Key in keyof D]: MetricOf<D[Key]> };

export type Metrics = MetricsOf<typeof METRICS>;

/** Creates a registry with every metric of the sidecar. One process may have several. */
export function createRegistry(): { registry: Registry; metrics: Metrics } {
  const { registry, metrics } = register(METRICS);
  initialise(metrics);
  return { registry, metrics };
}

/** Creates a registry with these metrics. */
export function register<D extends Declarations>(declarations: D): { registry: Registry; metrics: MetricsOf<D> } {
  const registry = new Registry();
  const entries = Object.entries(declarations).map(([key, declaration]) => {
    const { type, help, labels } = declaration;
    const options = { name: METRIC_PREFIX + declaration.name, help, labelNames: [...labels], registers: [registry] };
    if (type === 'counter') return [key, new Counter(options)];
    if (type === 'gauge') return [key, new Gauge(options)];
    return [key, new Histogram({ ...options, buckets: [...(declaration.buckets ?? [])] })];
  });
  return { registry, metrics: Object.fromEntries(entries) as unknown as MetricsOf<D> };
}

/** Creates series at 0: a series that appears with its first failure has no rate, so no alert would see it. */
function initialise(metrics: Metrics): void {
  const { exports, duration, retries, active } = metrics;
  active.set(0);
  for (const destination of DESTINATION_NAMES) {
    for (const result of RESULTS) {
      exports.inc({ destination, result }, 0);
      duration.zero({ destination, result });
    }
    for (const reason of RETRY_REASONS) retries.inc({ destination, reason }, 0);
    for (const [type, reasons] of Object.entries(IMAGE_REASONS))
      for (const reason of reasons) metrics.images.inc({ destination, type, reason }, 0);
    metrics.changedBytes.inc({ destination }, 0);
    const { destinationScannedClusters, destinationSourceReadBytes, destinationSentBytes } = metrics;
    for (const counter of [destinationScannedClusters, destinationSourceReadBytes, destinationSentBytes]) counter.inc({ destination }, 0);
    for (const reason of SKIP_REASONS) metrics.destinationSkippedClusters.inc({ destination, reason }, 0);
    for (const kind of CLUSTER_KINDS) metrics.destinationWrittenClusters.inc({ destination, kind }, 0);
  }
}
