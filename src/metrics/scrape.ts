/** What a scrape is answered with, in the format that was asked for. */

import { Registry } from 'prom-client';
import { METRIC_PREFIX, METRICS } from './catalogue.ts';
import { toOpenMetrics } from './open-metrics.ts';
import type { ScrapeFormat } from './scrape-format.ts';

export interface Scrape {
  contentType: string;
  text: string;
}

const UNITS = new Map(Object.values(METRICS).map(({ name, unit }) => [METRIC_PREFIX + name, unit]));

export async function scrapeRegistry(registry: Registry, format: ScrapeFormat): Promise<Scrape> {
  const text = await registry.metrics();
  if (format === 'prometheus') return { contentType: Registry.PROMETHEUS_CONTENT_TYPE, text };
  return { contentType: Registry.OPENMETRICS_CONTENT_TYPE, text: toOpenMetrics(text, UNITS) };
}
