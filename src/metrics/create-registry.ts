/** Creates a registry with every metric of the catalogue. One process may have several. */

import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { DESTINATION_NAMES } from '../resource/destination-kinds.ts';
import { CLUSTER_KINDS, METRIC_PREFIX, METRICS, RESULTS, RETRY_REASONS, SKIP_REASONS } from './catalogue.ts';

type Declarations = typeof METRICS;

/** The prom-client metric of a declaration. */
type MetricOf<D> = D extends { type: 'counter'; labels: readonly (infer Label extends string)[] }
  ? Counter<Label>
  : D extends { type: 'gauge'; labels: readonly (infer Label extends string)[] }
    ? Gauge<Label>
    : D extends { type: 'histogram'; labels: readonly (infer Label extends string)[] }
      ? Histogram<Label>
      : never;

export type Metrics = { readonly [Key in keyof Declarations]: MetricOf<Declarations[Key]> };

export function createRegistry(): { registry: Registry; metrics: Metrics } {
  const registry = new Registry();
  const entries = Object.entries(METRICS).map(([key, declaration]) => {
    const { type, help, labels } = declaration;
    const options = { name: METRIC_PREFIX + declaration.name, help, labelNames: [...labels], registers: [registry] };
    if (type === 'counter') return [key, new Counter(options)];
    if (type === 'gauge') return [key, new Gauge(options)];
    return [key, new Histogram({ ...options, buckets: [...declaration.buckets] })];
  });
  const metrics = Object.fromEntries(entries) as unknown as Metrics;
  initialise(metrics);
  return { registry, metrics };
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
    const { destinationScannedClusters, destinationSourceReadBytes, destinationSentBytes } = metrics;
    for (const counter of [destinationScannedClusters, destinationSourceReadBytes, destinationSentBytes]) counter.inc({ destination }, 0);
    for (const reason of SKIP_REASONS) metrics.destinationSkippedClusters.inc({ destination, reason }, 0);
    for (const kind of CLUSTER_KINDS) metrics.destinationWrittenClusters.inc({ destination, kind }, 0);
  }
}
