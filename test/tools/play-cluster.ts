/** A cluster of one node to play with: play-cluster.ts up | down. Its state lies in .cache/cluster. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type NodeProcesses, nodeProblem, startNodeCluster, stopNodeCluster } from '../cluster/node-cluster.ts';
import { IMAGE_NAME } from '../helpers/container-image.ts';
import { helmDirectory } from '../helpers/helm-tools.ts';

const STATE = path.join(import.meta.dirname, '..', '..', '.cache', 'cluster');
const PROCESSES = path.join(STATE, 'processes.json');
const RUN = path.join(STATE, 'run');

async function up(): Promise<void> {
  const problem = await nodeProblem();
  assert.equal(problem, undefined, `no cluster can be started: ${problem}`);
  assert.ok(!existsSync(PROCESSES), 'a cluster runs already: make cluster-down');
  console.log('Building the image and starting a node: about a minute');
  const { enter, kubeconfig, binaries, unsharePid, firstPid, directory } = await startNodeCluster({ outlives: true });
  mkdirSync(STATE, { recursive: true });
  writeFileSync(PROCESSES, JSON.stringify({ unsharePid, firstPid, directory } satisfies NodeProcesses));
  const environment = `env --chdir="$PWD" KUBECONFIG=${kubeconfig} PATH="${binaries}:${helmDirectory()}:$PATH"`;
  writeFileSync(RUN, `#!/bin/sh\nexec ${enter.join(' ')} ${environment} "$@"\n`, { mode: 0o755 });
  const run = path.relative(process.cwd(), RUN);
  console.log(`It runs, and has the image ${IMAGE_NAME}. On it:\n\n  ${run} kubectl get nodes\n  ${run} bash\n  make cluster-down`);
}

async function down(): Promise<void> {
  if (!existsSync(PROCESSES)) return;
  const processes = JSON.parse(readFileSync(PROCESSES, 'utf8')) as NodeProcesses;
  // After a restart of the machine the numbers are somebody else's.
  if (isOf(processes)) await stopNodeCluster(processes);
  rmSync(STATE, { recursive: true });
}

function isOf({ unsharePid, directory }: NodeProcesses): boolean {
  const file = `/proc/${unsharePid}/cmdline`;
  return existsSync(file) && readFileSync(file, 'utf8').includes(directory);
}

const [command] = process.argv.slice(2);
await (command === 'up' ? up() : down());
