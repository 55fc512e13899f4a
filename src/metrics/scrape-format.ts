/** Selects the format of a scrape. Pure. */

export type ScrapeFormat = 'prometheus' | 'openmetrics';

interface MediaRange {
  type: string;
  version: string | undefined;
  quality: number;
}

/**
 * @param accept the header `Accept` (RFC 9110, section 12.5.1)
 * @returns OpenMetrics where the header names it with a supported version and a quality not below the text format's. Parameters other
 * than the version, such as the `escaping` of Prometheus 3, do not matter for metrics with these names.
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
