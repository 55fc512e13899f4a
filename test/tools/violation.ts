/** A violation that a check of the sources returns, and its report. */

export interface Violation {
  /** The name of the rule that is broken. */
  rule: string;
  /** Path relative to the root of the checkout, with a line number if it has one: `src/bin.ts:12`. */
  where: string;
  what: string;
}

/** Prints the violations on standard error, or one line that all rules are kept. Sets the exit code of the process. */
export function reportViolations(checked: string, violations: readonly Violation[]): void {
  for (const { rule, where, what } of violations) console.error(`${where}: ${what} [${rule}]`);
  if (violations.length > 0) process.exitCode = 1;
  else console.log(checked);
}
