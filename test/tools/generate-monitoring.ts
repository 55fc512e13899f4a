/**
 * `node test/tools/generate-monitoring.ts [--check]` writes dashboard and rules; --check fails if one is out of date.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { dashboardFile } from '../../monitoring/dashboard.ts';
import { ruleFile } from '../../monitoring/rule-file.ts';
import { reportViolations } from './violation.ts';

export const DASHBOARD_FILE = 'charts/disklift/dashboards/disklift.json';
export const CHART_RULES_FILE = 'charts/disklift/rules/disklift.yaml';
export const RULES_FILE = 'manifests/prometheus-rules.yaml';

const ORIGIN = '# Generated from monitoring/ by `make generate`: change it there.\n';
const HOW_TO = '# For rule_files of prometheus.yml, where the name of the job has disklift in it.\n';

function generate(): Map<string, string> {
  const rules = ruleFile();
  return new Map([
    [DASHBOARD_FILE, dashboardFile()],
    [CHART_RULES_FILE, `${ORIGIN}${rules}`],
    [RULES_FILE, `${ORIGIN}${HOW_TO}${rules}`],
  ]);
}

if (import.meta.main) {
  const files = generate();
  if (process.argv.includes('--check')) {
    const drifted = [...files].filter(([file, text]) => readFileSync(file, 'utf8') !== text);
    reportViolations(
      `generated: ${files.size} files, as monitoring/ has it`,
      drifted.map(([where]) => ({ rule: 'generated', where, what: 'is not what monitoring/ gives; run make generate' })),
    );
  } else
    for (const [file, text] of files) {
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
}
