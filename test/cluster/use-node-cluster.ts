/** The one node that all tests of a run share: started for the first test that uses it, stopped after the last test. */

import assert from 'node:assert/strict';
import { type NodeCluster, nodeProblem, startNodeCluster } from './node-cluster.ts';

let shared: Promise<NodeCluster> | undefined;

// Test files import this module at their top level, so the hook belongs to the whole run.
after(async () => {
  if (shared !== undefined) await (await shared).stop();
});

/**
 * Skips the suite with one loud line if no node can run; fails it in CI. Call it in `before`, whose time limit it sets.
 */
export async function useNodeCluster(context: Mocha.Context): Promise<NodeCluster> {
  context.timeout(300_000);
  const problem = await nodeProblem();
  if (problem !== undefined) {
    if (process.env.CI) assert.fail(`tests on a real node cannot run: ${problem}`);
    console.error(`    SKIPPED: ${context.test?.parent?.total()} tests on a real node: ${problem}`);
    context.skip();
  }
  shared ??= startNodeCluster();
  return shared;
}
