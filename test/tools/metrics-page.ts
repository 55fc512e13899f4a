/** docs/metrics.md, made from the catalogue of metrics. */

import { METRIC_PREFIX, METRICS, type MetricDeclaration } from '../../src/metrics/catalogue.ts';
import { CONTROLLER_METRICS } from '../../src/metrics/controller-catalogue.ts';
import { markdownTable } from './markdown-table.ts';

function cellsOf({ name, type, unit, labels, help }: MetricDeclaration): string[] {
  return [`\`${METRIC_PREFIX}${name}\``, type, unit, labels.map((label) => `\`${label}\``).join(' '), help];
}

export function metricsPage(): string {
  return [
    '# Metrics',
    '',
    'Generated from src/metrics by `make generate`. `/metrics` answers in the text format of Prometheus, or as OpenMetrics when',
    'the request accepts that.',
    '',
    '## Sidecar',
    '',
    ...markdownTable([['metric', 'type', 'unit', 'labels', 'meaning'], ...Object.values(METRICS).map(cellsOf)]),
    '',
    '- After an export with one attempt, scanned clusters are the sum of skipped clusters and written clusters of data.',
    '- `exports_total`, `export_duration_seconds` and `retries_total` start at 0 with a series for each known label value.',
    '  The first failure therefore shows as an increase.',
    '- The series of an export stay for `seriesRetentionSeconds` after its end, for the last 1000 disks at most. The number of series with',
    '  labels of an export is limited by that, by `maxConcurrentExports` and by the number of waiting exports.',
    '- `result` is `Succeeded`, `Failed` or `Cancelled`; `reason` is a reason of docs/operations.md; `destination` is `HTTP`, `S3` or `TCP`.',
    '- `process_*` and `nodejs_*` describe the process itself, under their usual names. `nodejs_eventloop_lag_p99_seconds` shows whether its',
    '  event loop is overloaded.',
    '',
    '## Controller',
    '',
    ...markdownTable([['metric', 'type', 'unit', 'labels', 'meaning'], ...Object.values(CONTROLLER_METRICS).map(cellsOf)]),
    '',
  ].join('\n');
}
