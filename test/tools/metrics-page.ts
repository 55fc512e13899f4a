/** docs/metrics.md, made from the catalogue of metrics. */

import { METRIC_PREFIX, METRICS, type MetricDeclaration } from '../../src/metrics/catalogue.ts';
import { markdownTable } from './markdown-table.ts';

function cellsOf({ name, type, unit, labels, help }: MetricDeclaration): string[] {
  return [`\`${METRIC_PREFIX}${name}\``, type, unit, labels.map((label) => `\`${label}\``).join(' '), help];
}

export function metricsPage(): string {
  return [
    '# Metrics',
    '',
    'Made from src/metrics/catalogue.ts by `make generate`. `/metrics` gives them in the text format of Prometheus, and as',
    'OpenMetrics to who asks for that.',
    '',
    ...markdownTable([['metric', 'type', 'unit', 'labels', 'what it tells'], ...Object.values(METRICS).map(cellsOf)]),
    '',
    '- After an export that needed one attempt, scanned is skipped plus written data.',
    '- `exports_total`, `export_duration_seconds` and `retries_total` have a series for every label value that can be told beforehand,',
    '  with 0, so that the first failure shows as an increase.',
    '- The series of an export stay for `seriesRetentionSeconds` when it has ended; of exports that have ended, those of the last',
    '  1000 disks at most. Series with labels of an export are bounded by that, by `maxConcurrentExports` and by how many wait.',
    '- `result` is `Succeeded`, `Failed` or `Cancelled`; `reason` is one of docs/operations.md; `destination` is `HTTP`, `S3` or `TCP`.',
    "- What the process takes is there, too, under Prometheus' usual names: `process_*` and `nodejs_*`, of which",
    '  `nodejs_eventloop_lag_p99_seconds` tells whether it keeps up.',
    '',
  ].join('\n');
}
