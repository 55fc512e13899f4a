/** The parts of queries: names of metrics of the catalogue, and the matchers of the dashboard's variables. */

import { METRIC_PREFIX, METRICS } from '../src/metrics/catalogue.ts';
import { CONTROLLER_METRICS } from '../src/metrics/controller-catalogue.ts';

type Declaration = (typeof METRICS)[keyof typeof METRICS] | (typeof CONTROLLER_METRICS)[keyof typeof CONTROLLER_METRICS];

const DECLARATIONS: readonly Declaration[] = [...Object.values(METRICS), ...Object.values(CONTROLLER_METRICS)];

/** A histogram is queried by its buckets. */
export type MetricName = Declaration['name'];

const SIDECAR_MATCHERS = 'job=~"$job", instance=~"$instance"';
/** Matchers by label, for metrics that have the label. */
const EXPORT_MATCHERS = { export_namespace: 'export_namespace=~"$namespace"', export: 'export=~"$export"' } as const;

function declarationOf(name: MetricName): Declaration {
  return DECLARATIONS.find((declaration) => declaration.name === name) as Declaration;
}

/** The name of the metric in Prometheus. */
export function metric(name: MetricName): string {
  return `${METRIC_PREFIX}${name}${declarationOf(name).type === 'histogram' ? '_bucket' : ''}`;
}

/** The metric, filtered by the dashboard's variables. @param more further matchers */
export function chosen(name: MetricName, more?: string): string {
  const labels: readonly string[] = declarationOf(name).labels;
  const ofExports = Object.entries(EXPORT_MATCHERS).flatMap(([label, matcher]) => (labels.includes(label) ? [matcher] : []));
  const matchers = [SIDECAR_MATCHERS, ...ofExports, ...(more === undefined ? [] : [more])];
  return `${metric(name)}{${matchers.join(', ')}}`;
}
