/** Answers a scrape in the text format of Prometheus or in OpenMetrics. */

import { Registry } from 'prom-client';
import { METRIC_PREFIX, METRICS } from './catalogue.ts';
import { CONTROLLER_METRICS } from './controller-catalogue.ts';

export interface Scrape {
  contentType: string;
  text: string;
}

const UNITS = new Map(
  [...Object.values(METRICS), ...Object.values(CONTROLLER_METRICS)].map(({ name, unit }) => [METRIC_PREFIX + name, unit]),
);

export async function scrapeRegistry(registry: Registry, format: ScrapeFormat): Promise<Scrape> {
  const text = await registry.metrics();
  if (format === 'prometheus') return { contentType: Registry.PROMETHEUS_CONTENT_TYPE, text };
  return { contentType: Registry.OPENMETRICS_CONTENT_TYPE, text: toOpenMetrics(text, UNITS) };
}

export type ScrapeFormat = 'prometheus' | 'openmetrics';

interface MediaRange {
  type: string;
  version: string | undefined;
  quality: number;
}

/**
 * @param accept the header `Accept` (RFC 9110, section 12.5.1)
 * @returns OpenMetrics when the header names it with a supported version and a quality not below the text format's.
 * Parameters other than the version, such as the `escaping` of Prometheus 3, do not matter for metrics with these
 * names.
 */
export function scrapeFormatOf(accept: string | undefined): ScrapeFormat {
  const ranges = (accept ?? '*/*').split(',').map(parseRange);
  const best = (isOf: (range: MediaRange) => boolean) => Math.max(0, ...ranges.filter(isOf).map(({ quality }) => quality));
  const open = best(({ type, version = '1.0.0' }) => type === 'application/openmetrics-text' && version === '1.0.0');
  const text = best(({ type, version = '0.0.4' }) => type === 'text/plain' && version === '0.0.4');
  return open > 0 && open >= text ? 'openmetrics' : 'prometheus';
}

function parseRange(text: string): MediaRange {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const parameterOf = (name: string) => parameters.find((parameter) => parameter.startsWith(`${name}=`))?.slice(name.length + 1);
  const quality = Number(parameterOf('q') ?? 1);
  return { type, version: parameterOf('version')?.replaceAll('"', ''), quality: Number.isFinite(quality) ? quality : 0 };
}

const HEAD = /^# (HELP|TYPE) (\S+) (.*)$/;

/** OpenMetrics writes bounds as floating point numbers. */
const WHOLE_BOUND = /([{,]le=")(\d+)"/;

/**
 * Converts the text format of Prometheus to OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/).
 * prom-client writes both, but can switch a registry only for all scrapes.
 * @param text as prom-client writes it @param units of metrics, by their full names
 */
export function toOpenMetrics(text: string, units: ReadonlyMap<string, string>): string {
  const lines: string[] = [];
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, keyword, name = '', rest = ''] = HEAD.exec(line) ?? [];
    if (keyword === undefined) {
      lines.push(line.replace(WHOLE_BOUND, '$1$2.0"'));
      continue;
    }
    // The name of a family of counters has no suffix `_total`.
    const family = types.get(name) === 'counter' ? name.replace(/_total$/, '') : name;
    lines.push(`# ${keyword} ${family} ${keyword === 'HELP' ? rest.replaceAll('"', '\\"') : rest}`);
    const unit = units.get(name);
    if (keyword === 'TYPE' && unit !== undefined && family.endsWith(`_${unit}`)) lines.push(`# UNIT ${family} ${unit}`);
  }
  return `${lines.join('\n')}\n# EOF\n`;
}
