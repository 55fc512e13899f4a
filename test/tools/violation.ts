/** A violation that a check of the sources returns, and its report. */

export interface Violation {
  /** The name of the rule that is broken. */
  rule: string;
  /** Relative to the root of the checkout, with the line where there is one: `src/bin.ts:12`. */
  where: string;
  what: string;
}

/** Prints what is wrong on standard error, or one line that nothing is, and sets the exit code of the process. */
export function reportViolations(checked: string, violations: readonly Violation[]): void {
  for (const { rule, where, what } of violations) console.error(`${where}: ${what} [${rule}]`);
  if (violations.length > 0) process.exitCode = 1;
  else console.log(checked);
}
