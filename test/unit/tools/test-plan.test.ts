import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { planJobs, testFiles } from '../../tools/test-plan.ts';

const TESTS = path.join(import.meta.dirname, '..', '..');

/** Imports of tests that measure, or that use what only one test at a time may use. */
const NEEDS_MACHINE = /from '[./]*(helpers\/)?(process-memory|processor-seconds|use-node-cluster)\.ts'|memoryUsage|MemoryBytes/;

describe('the plan of the tests', () => {
  const jobs = planJobs(testFiles([TESTS]));

  it('has every test file once', () => {
    const planned = jobs.flatMap(({ files }) => files);
    assert.deepEqual(planned.toSorted(), testFiles([TESTS]));
  });

  it('lets files that measure memory or processors, or start a node, run alone', () => {
    for (const { files, aloneReason } of jobs)
      for (const file of files)
        if (NEEDS_MACHINE.test(readFileSync(file, 'utf8')) && !file.endsWith('test-plan.test.ts'))
          assert.ok(aloneReason, `${path.relative(TESTS, file)} needs a line "// Runs alone: REASON"`);
  });

  it('starts files that run alone when all others have ended', () => {
    const alone = jobs.map(({ aloneReason }) => aloneReason !== undefined);
    assert.deepEqual(alone, alone.toSorted());
  });
});
