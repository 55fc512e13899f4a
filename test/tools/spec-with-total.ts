/**
 * Mocha's spec reporter, with the total as a last line for programs: `12 passed, 0 failed, 3 skipped`. With the option
 * `results=FILE` it writes a {@link ProcessResults} to FILE in place of the list of failures and the total.
 */

import { writeFileSync } from 'node:fs';
import { format } from 'node:util';
import Mocha from 'mocha';

const { Base } = Mocha.reporters;
const { EVENT_HOOK_END, EVENT_TEST_END, EVENT_TEST_FAIL } = Mocha.Runner.constants;

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

/** Results that a process of mocha reports after each failure, and when its last test has ended. */
export interface ProcessResults {
  /** All tests have ended. */
  isComplete: boolean;
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
    // A process that dies later has reported this failure.
    runner.on(EVENT_TEST_FAIL, () => this.#write(false));
  }

  #write(isComplete: boolean): void {
    if (this.#resultsFile === undefined) return;
    const results: ProcessResults = { isComplete, counts: this.#counts(), failures: listOf(this.failures), steps: this.#steps };
    writeFileSync(this.#resultsFile, JSON.stringify(results));
  }

  #counts(): Counts {
    const { passes: passed, failures: failed, pending: skipped } = this.stats;
    return { passed, failed, skipped };
  }

  override epilogue(): void {
    if (this.#resultsFile === undefined) {
      super.epilogue();
      Base.consoleLog(totalLine(this.#counts()));
    } else this.#write(true);
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
