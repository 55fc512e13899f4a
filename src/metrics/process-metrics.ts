/** Metrics of the process itself, under the names that all clients of Prometheus use. */

import { collectDefaultMetrics, type Registry } from 'prom-client';

/** Gauges of prom-client with names of counters. Each is the sum of another metric. */
const MISNAMED = ['handles', 'requests', 'resources'].map((what) => `nodejs_active_${what}_total`);

/** Measures memory, CPU time, descriptors and event loop delay. Only for one registry of a process. */
export function measureProcess(registry: Registry): void {
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
}
