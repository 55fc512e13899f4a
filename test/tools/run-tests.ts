/**
 * Runs test files, each in a process of its own and several at a time: run-tests.ts [--workers N] [--limit-seconds N]
 * [PLACE...] See test-plan.ts for those that run alone. The output of a file stays together; failures and the total
 * come at the end.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Counts, totalLine } from './spec-with-total.ts';
import { planJobs, type TestJob, testFiles } from './test-plan.ts';
import { type JobResult, killTestProcesses, runJob } from './test-process.ts';

/** A file may last this long; a process gets it for each of its files. */
const FILE_LIMIT_SECONDS = 1200;
const MAX_LISTED = 15;

const CACHE = path.join(import.meta.dirname, '..', '..', '.cache');
const COMPILE_CACHE = path.join(CACHE, 'compiled');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { workers: { type: 'string' }, 'limit-seconds': { type: 'string' } },
});
const workers = Number(values.workers ?? os.availableParallelism());
const limitMs = Number(values['limit-seconds'] ?? FILE_LIMIT_SECONDS) * 1000;

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;

const results: { job: TestJob; result: JobResult }[] = [];

async function run(job: TestJob): Promise<void> {
  // A file that measures gets no compile cache, so that its processes load and compile as usual. Coverage is exact only
  // without a cache.
  const mayCache = job.aloneReason === undefined && process.env.NODE_V8_COVERAGE === undefined;
  const compileCache = mayCache ? COMPILE_CACHE : undefined;
  const result = await runJob(job.files, { limitMs: limitMs * job.files.length, compileCache });
  results.push({ job, result });
  console.log(
    `\n=== ${job.files.join(', ')}: ${totalLine(result.counts)} in ${seconds(result.durationMs)}, ${result.processorSeconds.toFixed(1)} s of a processor`,
  );
  console.log(result.output.trimEnd());
  // The reason is printed early, in case the log is truncated later.
  if (result.counts.failed > 0) console.log(result.failures);
}

/** @returns when the last job has ended */
async function runAll(jobs: readonly TestJob[], atATime: number): Promise<void> {
  const queue = [...jobs];
  const work = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) await run(job);
  };
  await Promise.all(Array.from({ length: atATime }, work));
}

function printSlowest(title: string, lines: readonly (readonly [string, number])[]): void {
  console.log(`\n${title}`);
  const slowest = lines.toSorted(([, a], [, b]) => b - a).slice(0, MAX_LISTED);
  for (const [name, durationMs] of slowest) console.log(`${seconds(durationMs).padStart(9)}  ${name}`);
}

function sumOf(counts: readonly Counts[]): Counts {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed, failed, skipped } of counts) {
    sum.passed += passed;
    sum.failed += failed;
    sum.skipped += skipped;
  }
  return sum;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => {
    killTestProcesses();
    process.kill(process.pid, signal);
  });

const jobs = planJobs(testFiles(positionals.length > 0 ? positionals : ['test']));
const startMs = performance.now();
await runAll(
  jobs.filter(({ aloneReason }) => aloneReason === undefined),
  workers,
);
const besideMs = performance.now() - startMs;
await runAll(
  jobs.filter(({ aloneReason }) => aloneReason !== undefined),
  1,
);
const aloneMs = performance.now() - startMs - besideMs;

mkdirSync(CACHE, { recursive: true });
const report = results.map(({ job, result: { counts, durationMs, processorSeconds, steps } }) => ({
  ...job,
  counts,
  durationMs,
  processorSeconds,
  steps,
}));
writeFileSync(path.join(CACHE, 'test-durations.json'), JSON.stringify(report, undefined, 1));
printSlowest(
  'Slowest processes of mocha:',
  results.map(({ job, result }) => [job.files.join(', '), result.durationMs]),
);
printSlowest(
  'Slowest tests and hooks:',
  results.flatMap(({ result }) => result.steps.map(({ title, durationMs }) => [title, durationMs] as const)),
);
const processorSeconds = results.reduce((sum, { result }) => sum + result.processorSeconds, 0);
console.log(`
${workers} processes at a time: ${seconds(besideMs)}; one at a time: ${seconds(aloneMs)}; all of them: ${processorSeconds.toFixed(0)} s of a processor`);

const total = sumOf(results.map(({ result }) => result.counts));
if (jobs.length === 0) total.failed += 1;
for (const { job, result } of results)
  if (result.counts.failed > 0) console.log(`\n=== Failures in ${job.files.join(', ')}\n${result.failures}`);
console.log(`\n${totalLine(total)}`);
process.exitCode = total.failed > 0 ? 1 : 0;
