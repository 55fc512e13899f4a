/** Checks the allowed dependencies between the layers: dependency-cruiser with the rules of .dependency-cruiser.mjs. */

import path from 'node:path';
import { cruise, type ICruiseResult } from 'dependency-cruiser';
import extractDepcruiseOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config';
import { sourcePaths } from './source-tree.ts';
import { reportViolations, type Violation } from './violation.ts';

/** The rule that dependency-cruiser cannot express. */
export const EVERY_MODULE_SEEN = 'every-module-seen';

export const LAYERS_FILE = '.dependency-cruiser.mjs';

/** @param layersFile relative to `root` */
export async function checkLayers(root: string, layersFile = LAYERS_FILE): Promise<Violation[]> {
  const options = await extractDepcruiseOptions(path.join(root, layersFile));
  const tsConfig = extractTSConfig(path.join(root, 'tsconfig.json'));
  const { output } = await cruise(['src'], { ...options, baseDir: root }, undefined, { tsConfig });
  const result = output as ICruiseResult;
  return [...unseenModules(root, result), ...brokenRules(result)];
}

/**
 * With an unsupported version of the compiler, dependency-cruiser skips all TypeScript files and reports no violation.
 */
function unseenModules(root: string, result: ICruiseResult): Violation[] {
  const seen = new Set(result.modules.map((module) => module.source));
  return sourcePaths(root)
    .filter((sourcePath) => !seen.has(sourcePath))
    .map((where) => ({ rule: EVERY_MODULE_SEEN, where, what: 'was not examined by dependency-cruiser' }));
}

function brokenRules({ summary }: ICruiseResult): Violation[] {
  const reasons = new Map(summary.ruleSetUsed?.forbidden?.map(({ name, comment }) => [name, comment]));
  return summary.violations.map(({ rule, from, to, cycle }) => {
    const route = cycle === undefined ? [to] : cycle.map((step) => step.name);
    return { rule: rule.name, where: from, what: `must not use ${route.join(' -> ')}. ${reasons.get(rule.name) ?? ''}` };
  });
}

if (import.meta.main) {
  const root = process.cwd();
  reportViolations(`layers: ${sourcePaths(root).length} modules, all in order`, await checkLayers(root));
}
