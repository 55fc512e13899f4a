/** Every metric, declared once. Names and units as https://prometheus.io/docs/practices/naming/ asks for. */

export interface MetricDeclaration {
  type: 'counter' | 'gauge' | 'histogram';
  /** Without the prefix. */
  name: string;
  help: string;
  /** What it counts or measures. Where it is one of Prometheus' units the name ends with it, in front of `_total`. */
  unit: string;
  labels: readonly string[];
  /** Of a histogram: upper bounds. */
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
    help: 'Clusters of which the scan has decided what they are, from a hole or from their bytes.',
    unit: 'clusters',
    labels: DISK_LABELS,
  },
  skippedClusters: {
    type: 'counter',
    name: 'skipped_clusters_total',
    help: 'Clusters that are left out of the image, because they lie in a hole or hold zeros only.',
    unit: 'clusters',
    labels: [...DISK_LABELS, 'reason'],
  },
  writtenClusters: {
    type: 'counter',
    name: 'written_clusters_total',
    help: 'Clusters of the image that were sent, data of the disk or metadata of the format.',
    unit: 'clusters',
    labels: [...DISK_LABELS, 'kind'],
  },
  sourceReadBytes: {
    type: 'counter',
    name: 'source_read_bytes_total',
    help: 'Bytes that were read from the disk, by the scan, to be sent and to be verified.',
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
    help: 'Clusters that were scanned for all exports to a destination; there from the start, so that a rate sees short exports too.',
    unit: 'clusters',
    labels: ['destination'],
  },
  destinationSkippedClusters: {
    type: 'counter',
    name: 'destination_skipped_clusters_total',
    help: 'Clusters that were left out of all images for a destination, by reason; there from the start.',
    unit: 'clusters',
    labels: ['destination', 'reason'],
  },
  destinationWrittenClusters: {
    type: 'counter',
    name: 'destination_written_clusters_total',
    help: 'Clusters that were sent to a destination, by kind; there from the start.',
    unit: 'clusters',
    labels: ['destination', 'kind'],
  },
  destinationSourceReadBytes: {
    type: 'counter',
    name: 'destination_source_read_bytes_total',
    help: 'Bytes that were read from the disks of all exports to a destination; there from the start.',
    unit: 'bytes',
    labels: ['destination'],
  },
  destinationSentBytes: {
    type: 'counter',
    name: 'destination_sent_bytes_total',
    help: 'Bytes of images that were sent to a destination, in all attempts; there from the start.',
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
    help: 'When bytes of the disk were last scanned or sent, in seconds since the epoch; there while the disk is scanned or sent.',
    unit: 'seconds',
    labels: DISK_LABELS,
  },
  ended: {
    type: 'gauge',
    name: 'export_end_timestamp_seconds',
    help: 'When the export has ended, in seconds since the epoch; its labels tell how, and why it has not succeeded.',
    unit: 'seconds',
    labels: ['export_namespace', 'export', 'destination', 'result', 'reason'],
  },
  retries: {
    type: 'counter',
    name: 'retries_total',
    help: 'Attempts that failed and were made again, by the reason of the failure.',
    unit: 'attempts',
    labels: ['destination', 'reason'],
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
    help: 'Exports of the claims that this process serves which wait: for a slot, for a disk in use, or for their next attempt.',
    unit: 'exports',
    labels: [],
  },
  unclaimed: {
    type: 'gauge',
    name: 'exports_unclaimed',
    help: 'Exports that no process has claimed, of any claim. The sidecars of a namespace all see the same ones: take the maximum.',
    unit: 'exports',
    labels: [],
  },
  lastSuccess: {
    type: 'gauge',
    name: 'last_success_timestamp_seconds',
    help: 'When the last good export of a claim has ended, in seconds since the epoch; 0 where this process knows of none.',
    unit: 'seconds',
    labels: ['export_namespace', 'claim'],
  },
  watchLastSuccess: {
    type: 'gauge',
    name: 'watch_last_success_timestamp_seconds',
    help: 'When it was last known which requests there are, in seconds since the epoch; 0 before it was known at all.',
    unit: 'seconds',
    labels: [],
  },
  buildInfo: {
    type: 'gauge',
    name: 'build_info',
    help: 'Always 1; its label tells the version.',
    unit: '1',
    labels: ['version'],
  },
} as const satisfies Record<string, MetricDeclaration>;

export const DESTINATIONS = ['HTTP', 'S3', 'TCP'] as const;
export const SKIP_REASONS = ['hole', 'zero'] as const;
export const CLUSTER_KINDS = ['data', 'metadata'] as const;
export const RESULTS = ['Succeeded', 'Failed', 'Cancelled'] as const;

/** Failures that an attempt can be made again after. */
export const RETRY_REASONS = [
  'SourceReadError',
  'SourceChanged',
  'DestinationUnreachable',
  'DestinationRejected',
  'ChecksumMismatch',
] as const;
