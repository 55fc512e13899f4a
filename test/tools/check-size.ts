/** Small files with plain names. Most have fewer than 150 lines; a file with more than 300 should be two. */

import path from 'node:path';
import { readSourceFile, sourcePaths } from './source-tree.ts';
import { reportViolations, type Violation } from './violation.ts';

const MAX_LINES = 300;

/** The first comment of a file that a program writes: its size follows from the file that it is made from. */
const GENERATED = /^\/\*\*[^*]*Generated from \S+ by `make generate`/;

const KEBAB_CASE = /^[a-z0-9]+(-[a-z0-9]+)*$/;

export const SIZE_RULES = ['most-lines', 'kebab-case'] as const;

function brokenBy(root: string, where: string): Violation[] {
  const violations: Violation[] = [];
  const { lineCount, tree } = readSourceFile(root, where);
  if (lineCount > MAX_LINES && !GENERATED.test(tree.text))
    violations.push({ rule: SIZE_RULES[0], where, what: `${lineCount} lines; more than ${MAX_LINES} hold two things that belong apart` });
  const names = [...path.dirname(where).split('/'), path.basename(where, '.ts')];
  if (!names.every((name) => KEBAB_CASE.test(name)))
    violations.push({ rule: SIZE_RULES[1], where, what: 'names of files and directories are lower case words with hyphens' });
  return violations;
}

export function checkSize(root: string): Violation[] {
  return sourcePaths(root).flatMap((sourcePath) => brokenBy(root, sourcePath));
}

if (import.meta.main) {
  const root = process.cwd();
  reportViolations(`size: ${sourcePaths(root).length} files, none written by hand above ${MAX_LINES} lines`, checkSize(root));
}
