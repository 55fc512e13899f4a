/** A cluster of one node to play with: play-cluster.ts up | down. Its state lies in .cache/cluster. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DISKLIFT_IMAGE, FORMATS_IMAGE } from '../cluster/node/configs.ts';
import { preparePlayground } from '../cluster/node/playground.ts';
import { SNAPSHOT_CLASSES, STORAGE_CLASSES, startStorage, storageProblem } from '../cluster/node/storage.ts';
import { type NodeProcesses, nodeProblem, startNodeCluster, stopNodeCluster } from '../cluster/node-cluster.ts';

const STATE = path.join(import.meta.dirname, '..', '..', '.cache', 'cluster');
const PROCESSES = path.join(STATE, 'processes.json');
const RUN = path.join(STATE, 'run');

async function up(): Promise<void> {
  const problem = await nodeProblem();
  assert.equal(problem, undefined, `no cluster can be started: ${problem}`);
  assert.ok(!existsSync(PROCESSES), 'a cluster runs already: make cluster-down');
  console.log('Building the image and starting a node: about a minute');
  const cluster = await startNodeCluster({ outlives: true });
  const { unsharePid, firstPid, directory } = cluster;
  mkdirSync(STATE, { recursive: true });
  writeFileSync(PROCESSES, JSON.stringify({ unsharePid, firstPid, directory } satisfies NodeProcesses));
  const { namespace, run } = await preparePlayground(cluster);
  const withoutStorage = await storageProblem();
  if (withoutStorage === undefined) await startStorage(cluster);
  const classes = `storage with snapshots: the classes ${STORAGE_CLASSES.immediate} and ${STORAGE_CLASSES.waiting} of claims, and ${SNAPSHOT_CLASSES.deleted} of VolumeSnapshots`;
  symlinkSync(run, RUN);
  console.log(`The cluster is ready. It has:

  - the images ${DISKLIFT_IMAGE} and, with qemu-nbd alone, ${FORMATS_IMAGE}
  - the namespace ${namespace} with the claims fedora-root (Filesystem) and windows-root (Block)
  - ${withoutStorage === undefined ? classes : `no storage with snapshots: ${withoutStorage}`}
  - receivers at https://backup.example, https://s3.example (bucket backups) and backup.example:9475 (TCP with TLS)

In this shell every command of README.md and docs runs unchanged:

  ${path.relative(process.cwd(), RUN)} bash

make cluster-down stops everything.`);
  // The receivers are children of this process, and continue after it.
  process.exit();
}

async function down(): Promise<void> {
  if (!existsSync(PROCESSES)) return;
  const processes = JSON.parse(readFileSync(PROCESSES, 'utf8')) as NodeProcesses;
  // After a restart of the machine other processes may have these ids.
  if (isOf(processes)) await stopNodeCluster(processes);
  rmSync(STATE, { recursive: true });
}

function isOf({ unsharePid, directory }: NodeProcesses): boolean {
  const file = `/proc/${unsharePid}/cmdline`;
  return existsSync(file) && readFileSync(file, 'utf8').includes(directory);
}

const [command] = process.argv.slice(2);
await (command === 'up' ? up() : down());
