/** `node test/tools/generate-docs.ts [--check]` writes the generated pages; --check fails if one is out of date. */

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { configurationPage } from './configuration-page.ts';
import { metricsPage } from './metrics-page.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

const PAGES: Record<string, () => string> = {
  'docs/configuration.md': configurationPage,
  'docs/metrics.md': metricsPage,
  // Helm applies the files there unchanged.
  'charts/disklift/crds/diskexports.yaml': () => readFileSync(path.join(ROOT, 'manifests', 'crd.yaml'), 'utf8'),
  'charts/disklift/crds/diskexportschedules.yaml': () => readFileSync(path.join(ROOT, 'manifests', 'crd-schedules.yaml'), 'utf8'),
};

const isCheck = process.argv.includes('--check');
for (const [name, make] of Object.entries(PAGES)) {
  const file = path.join(ROOT, name);
  if (!isCheck) writeFileSync(file, make());
  else if (readFileSync(file, 'utf8') !== make()) {
    console.error(`${name}: is not what it is made from; run \`make generate\``);
    process.exitCode = 1;
  }
}
