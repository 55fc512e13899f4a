/** One process of mocha, which runs a few test files and has a result in every case. */

import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import type { ProcessResults } from './spec-with-total.ts';

const MOCHA = path.join(path.dirname(createRequire(import.meta.url).resolve('mocha/package.json')), 'bin', 'mocha.js');
const REPORTER = path.join(import.meta.dirname, 'spec-with-total.ts');

export interface JobResult extends ProcessResults {
  /** The output of the process and its children. */
  output: string;
  durationMs: number;
  /** Processor time of the process and its children. On a busy machine `durationMs` grows, and this hardly. */
  processorSeconds: number;
}

interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  isLate: boolean;
  processorSeconds: number;
}

/** User and system time of all children so far that have ended, and of theirs: cutime and cstime of proc(5). */
function endedChildrenSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / 100;
}

/** At the end of the last child. One child after the other is added, so the difference is what the next one took. */
let secondsBefore = 0;

function secondsOfEnded(): number {
  const now = endedChildrenSeconds();
  const seconds = now - secondsBefore;
  secondsBefore = now;
  return seconds;
}

export interface ProcessOptions {
  /** The process and its children are killed after this time. */
  limitMs: number;
  /** Directory in which Node caches compiled code; without it each process compiles everything that it loads. */
  compileCache?: string | undefined;
}

/** Process groups that run and folders that are in use, for a runner that is interrupted. */
const groups = new Set<number>();
const directories = new Set<string>();

export function killTestProcesses(): void {
  for (const pid of groups) killGroup(pid);
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Its output goes to a file: children that outlive it keep no pipe open. */
function runMocha(files: readonly string[], resultsFile: string, outputFile: string, options: ProcessOptions): Promise<ProcessEnd> {
  const output = openSync(outputFile, 'a');
  const args = [MOCHA, '--reporter', REPORTER, '--reporter-option', `results=${resultsFile}`, ...files];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', output, output],
    // A process group of its own, so that a kill reaches its children.
    detached: true,
    env: { ...process.env, ...(options.compileCache && { NODE_COMPILE_CACHE: options.compileCache }) },
  });
  closeSync(output);
  return new Promise((resolve, reject) => {
    let isLate = false;
    const { pid } = child;
    if (pid !== undefined) groups.add(pid);
    const timer = setTimeout(() => {
      isLate = true;
      if (pid !== undefined) killGroup(pid);
    }, options.limitMs);
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      if (pid !== undefined) groups.delete(pid);
      resolve({ code, signal, isLate, processorSeconds: secondsOfEnded() });
    });
  });
}

/** Why a process counts as a failure although none of its tests has failed. */
function problemOf({ code, signal, isLate }: ProcessEnd, results: ProcessResults, { limitMs }: ProcessOptions, file: string) {
  if (isLate) return `did not end within ${limitMs / 1000} s${results.isComplete ? ', although its tests had ended' : ''}`;
  if (signal !== null) return `was killed by ${signal}`;
  if (!results.isComplete) return `ended with code ${code} before its tests had`;
  if (results.counts.failed === 0 && code !== 0) return `ended with code ${code} although no test failed`;
  const { passed, failed, skipped } = results.counts;
  if (passed + failed + skipped === 0) return `has no tests in ${file}`;
  return undefined;
}

/** A process that dies may leave no file, or an incomplete one. */
function readResults(file: string): ProcessResults {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ProcessResults;
  } catch {
    return { isComplete: false, counts: { passed: 0, failed: 0, skipped: 0 }, failures: '', steps: [] };
  }
}

export async function runJob(files: readonly string[], options: ProcessOptions): Promise<JobResult> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-run-'));
  directories.add(directory);
  const [resultsFile, outputFile] = [path.join(directory, 'results.json'), path.join(directory, 'output')];
  const startMs = performance.now();
  try {
    const end = await runMocha(files, resultsFile, outputFile, options);
    const output = readFileSync(outputFile, 'utf8');
    const results = readResults(resultsFile);
    const problem = problemOf(end, results, options, files.join(', '));
    const { counts, failures } = results;
    const measured = { ...results, output, durationMs: performance.now() - startMs, processorSeconds: end.processorSeconds };
    if (problem === undefined) return measured;
    const report = `  The process of mocha ${problem}. The last lines of its output:\n\n${output.slice(-4000)}`;
    return { ...measured, counts: { ...counts, failed: counts.failed + 1 }, failures: `${failures}\n${report}` };
  } finally {
    rmSync(directory, { recursive: true, force: true });
    directories.delete(directory);
  }
}
