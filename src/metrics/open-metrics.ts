/**
 * The text format of Prometheus as OpenMetrics 1.0 has it (https://prometheus.io/docs/specs/om/open_metrics_spec/). prom-client
 * writes both too, but one registry can only be switched from one to the other, for all who ask.
 */

const HEAD = /^# (HELP|TYPE) (\S+) (.*)$/;

/** OpenMetrics writes bounds as floating point numbers. */
const WHOLE_BOUND = /([{,]le=")(\d+)"/;

/** @param text as prom-client writes it for Prometheus @param units of metrics, by their full names */
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
    // A family of counters is called without what its samples end with.
    const family = types.get(name) === 'counter' ? name.replace(/_total$/, '') : name;
    lines.push(`# ${keyword} ${family} ${keyword === 'HELP' ? rest.replaceAll('"', '\\"') : rest}`);
    const unit = units.get(name);
    if (keyword === 'TYPE' && unit !== undefined && family.endsWith(`_${unit}`)) lines.push(`# UNIT ${family} ${unit}`);
  }
  return `${lines.join('\n')}\n# EOF\n`;
}
