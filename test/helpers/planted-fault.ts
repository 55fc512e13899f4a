/** One fault at a time, planted in a file, for tests that show that a check can fail. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Violation } from '../tools/violation.ts';

export function rulesOf(violations: readonly Violation[]): string[] {
  return [...new Set(violations.map(({ rule }) => rule))];
}

/** For each rule: a file, a text in it, and the text that breaks the rule. */
export type Faults<Rule extends string> = Record<Rule, readonly [file: string, from: string | RegExp, to: string]>;

/** Plants a fault in a file for as long as `check` runs. @returns the rules that `check` found broken */
export async function rulesBrokenBy(
  directory: string,
  [name, from, to]: readonly [string, string | RegExp, string],
  check: () => Promise<Violation[]> | Violation[],
): Promise<string[]> {
  const file = path.join(directory, name);
  const text = readFileSync(file, 'utf8');
  const changed = text.replace(from, to);
  assert.notEqual(changed, text, 'the fault is planted');
  writeFileSync(file, changed);
  try {
    return rulesOf(await check());
  } finally {
    writeFileSync(file, text);
  }
}
