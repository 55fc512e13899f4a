/** Runs the rules of workflow-rules.ts over .github/workflows. */

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { reportViolations, type Violation } from './violation.ts';
import { brokenRules, WORKFLOW_RULES, type Workflow } from './workflow-rules.ts';

export const WORKFLOWS = path.join('.github', 'workflows');

export function checkWorkflows(root: string): Violation[] {
  return readdirSync(path.join(root, WORKFLOWS)).flatMap((name) => {
    const text = readFileSync(path.join(root, WORKFLOWS, name), 'utf8');
    return brokenRules(path.join(WORKFLOWS, name), parse(text) as Workflow, text);
  });
}

if (import.meta.main) reportViolations(`workflows: ${WORKFLOW_RULES.length} rules, all kept`, checkWorkflows(process.cwd()));
