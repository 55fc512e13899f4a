/**
 * Mocha's spec reporter, with the total as a last line for programs: `12 passed, 0 failed, 3 skipped`. With the option
 * `results=FILE` it writes a {@link ProcessResults} to FILE in place of the list of failures and the total.
 */

import { writeFileSync } from 'node:fs';
import { format } from 'node:util';
import Mocha from 'mocha';

const { Base } = Mocha.reporters;
const { EVENT_HOOK_END, EVENT_TEST_END } = Mocha.Runner.constants;

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface TimedStep {
  file: string;
  /** Full name of the test or the hook. */
  title: string;
  durationMs: number;
}

/** What a process of mocha reports when its last test has ended. */
export interface ProcessResults {
  counts: Counts;
  /** Every failed test with its message, its difference and its stack. */
  failures: string;
  /** Every test and every hook. */
  steps: TimedStep[];
}

export function totalLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

class SpecWithTotal extends Mocha.reporters.Spec {
  readonly #steps: TimedStep[] = [];
  readonly #resultsFile: string | undefined;

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    this.#resultsFile = (options.reporterOptions as { results?: string } | undefined)?.results;
    for (const event of [EVENT_TEST_END, EVENT_HOOK_END])
      runner.on(event, (step: Mocha.Runnable) =>
        this.#steps.push({ file: step.file ?? '', title: step.fullTitle(), durationMs: step.duration ?? 0 }),
      );
  }

  override epilogue(): void {
    const { passes: passed, failures: failed, pending: skipped } = this.stats;
    const counts = { passed, failed, skipped };
    if (this.#resultsFile === undefined) {
      super.epilogue();
      Base.consoleLog(totalLine(counts));
    } else {
      const results: ProcessResults = { counts, failures: listOf(this.failures), steps: this.#steps };
      writeFileSync(this.#resultsFile, JSON.stringify(results));
    }
  }
}

/** The text that mocha would print. */
function listOf(failures: Mocha.Test[]): string {
  const print = Base.consoleLog;
  const lines: string[] = [];
  Base.consoleLog = (...parts: unknown[]) => void lines.push(format(...parts));
  try {
    if (failures.length > 0) Base.list(failures);
  } finally {
    Base.consoleLog = print;
  }
  return lines.join('\n');
}

// Mocha gets reporters by require(), which takes this name for what the module is.
export { SpecWithTotal as 'module.exports' };
