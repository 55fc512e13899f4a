/**
 * Which test files run beside others, and which alone. A test file says it itself, in a comment at the start of a line:
 *
 *   // Runs alone: REASON          No other test runs meanwhile. For files that measure time, memory or processors, or
 *                                  that use something of which the machine has only one.
 *   // Shares a process: NAME      Runs in one process with all files of that name, which share what is slow to start.
 */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';

/** The test files of one process of mocha. */
export interface TestJob {
  files: string[];
  /** Why no other test may run meanwhile. */
  aloneReason?: string;
}

/** Directories whose files take longest come first, so that no long file begins when the others have ended. */
const SLOW_FIRST = ['cluster', 'browser', 'integration', 'property', 'contract', 'unit'];

const ALONE = /^\/\/ Runs alone: (.+)$/m;
const SHARED = /^\/\/ Shares a process: (.+)$/m;

/** @param places files, and directories in which every .test.ts file counts */
export function testFiles(places: readonly string[]): string[] {
  const filesOf = (place: string) =>
    statSync(place).isDirectory()
      ? readdirSync(place, { recursive: true, encoding: 'utf8' })
          .filter((name) => name.endsWith('.test.ts'))
          .map((name) => path.join(place, name))
          .sort()
      : [path.normalize(place)];
  return [...new Set(places.flatMap(filesOf))];
}

/** @returns jobs in the order in which they start; those that run alone come last */
export function planJobs(files: readonly string[]): TestJob[] {
  const jobs = new Map<string, TestJob>();
  for (const file of files) {
    const text = readFileSync(file, 'utf8');
    const key = SHARED.exec(text)?.[1] ?? file;
    const aloneReason = ALONE.exec(text)?.[1];
    const job = jobs.get(key) ?? { files: [] };
    job.files.push(file);
    if (aloneReason !== undefined) job.aloneReason ??= aloneReason;
    jobs.set(key, job);
  }
  const rank = ({ files: [file = ''], aloneReason }: TestJob) =>
    (aloneReason === undefined ? 0 : SLOW_FIRST.length) + SLOW_FIRST.findIndex((name) => file.split(path.sep).includes(name));
  return [...jobs.values()].sort((a, b) => rank(a) - rank(b));
}
