/** Runs the rules of source-rules.ts over src. */

import { SOURCE_RULES, violatingNodes } from './source-rules.ts';
import { readSourceFile, sourcePaths } from './source-tree.ts';
import { reportViolations, type Violation } from './violation.ts';

export function checkSource(root: string): Violation[] {
  const violations: Violation[] = [];
  for (const sourcePath of sourcePaths(root)) {
    const file = readSourceFile(root, sourcePath);
    for (const rule of SOURCE_RULES)
      for (const node of violatingNodes(rule, file)) {
        const { line } = file.tree.getLineAndCharacterOfPosition(node.getStart(file.tree));
        violations.push({ rule: rule.name, where: `${sourcePath}:${line + 1}`, what: rule.reason });
      }
  }
  return violations;
}

if (import.meta.main) reportViolations(`source: ${SOURCE_RULES.length} rules, all kept`, checkSource(process.cwd()));
