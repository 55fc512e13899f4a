/** The storage of the node that all tests of a run share, started for the first test that uses it. */

import assert from 'node:assert/strict';
import { type NodeStorage, startStorage, storageProblem } from './node/storage.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeCluster } from './use-node-cluster.ts';

let shared: Promise<NodeStorage> | undefined;

/** As {@link useNodeCluster}, whose node it starts too. */
export async function useNodeStorage(context: Mocha.Context): Promise<NodeStorage & { cluster: NodeCluster }> {
  const cluster = await useNodeCluster(context);
  const problem = await storageProblem();
  if (problem !== undefined) {
    if (process.env.CI) assert.fail(`tests with storage of a node cannot run: ${problem}`);
    console.error(`    SKIPPED: ${context.test?.parent?.total()} tests with storage of a node: ${problem}`);
    context.skip();
  }
  shared ??= startStorage(cluster);
  return { cluster, ...(await shared) };
}
