/**
 * Runs a fleet: the controller is a process of its own with the rights of the chart. API server, Job controller and
 * garbage collector are real, the nodes are played. Volumes, guests and workers are objects only.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MANAGED_SELECTOR } from '../../../src/controller/export-objects.ts';
import type { SlotLimits } from '../../../src/controller/slot-queue.ts';
import { ALL_NAMESPACES } from '../../../src/stores/kubernetes/client/contract.ts';
import { CONTROLLER } from '../../helpers/chart.ts';
import { hasEnded } from '../../helpers/has-ended.ts';
import { podLaunch } from '../../helpers/pod-mounts.ts';
import { type Service, startService } from '../../helpers/service.ts';
import { until } from '../../helpers/until.ts';
import { type ApiServer, startApiServer } from '../api-server.ts';
import { applyChartAccount, type ChartAccount } from '../chart-account.ts';
import { installCrd } from '../install-crd.ts';
import { forEach, openPlayersApi, type PlayersApi } from './fleet-api.ts';
import { claimOf, exportOf, type FleetSize, guestOf, type Member, membersOf, namespacesOf, nodesOf } from './fleet-plan.ts';
import { FleetProgress, type Most } from './fleet-progress.ts';
import { type Sample, sampleOf } from './fleet-samples.ts';
import { startPlayedNodes } from './played-nodes.ts';
import { auditOf, countRequests } from './request-counts.ts';

export interface FleetOptions {
  size: FleetSize;
  limits: Required<Pick<SlotLimits, 'total' | 'perNamespace' | 'perNode'>>;
  /** Duration of each played export. */
  workMs: number;
  /** The file of disklift, with flags of Node before it; the sources when left out. */
  program?: readonly string[];
  /** The run fails when it takes longer. */
  limitMs: number;
  report(text: string): void;
}

export interface FleetRun {
  /** Exports by phase. */
  phases: Map<string, number>;
  most: Most;
  /** From the start of the controller. */
  samples: Sample[];
  /** Exports that had ended when the status of every export was written. */
  endedWhenAllWereSeen: number;
  /** Seconds from the start of the controller. */
  seconds: { allSeen: number; ended: number };
  /** Requests of the controller by `VERB RESOURCE`. */
  requests: Map<string, number>;
  /** Objects of the controller that were left, such as Jobs. */
  leftovers: string[];
  /** Warnings of the controller, and failures of the players. */
  problems: string[];
}

const SYSTEM = 'fleet-system';
const SAMPLE_MS = 500;
const REPORT_MS = 15_000;
/** Time for the last objects to go. */
const REST_MS = 60_000;

/** This fleet has neither snapshots nor VMs. */
const ABSENT = /^the CRD \S+ is not installed/;

const CONTROLLER_MANAGER = [
  '--controllers=job-controller,garbage-collector-controller,serviceaccount-controller',
  '--concurrent-job-syncs=50',
  '--concurrent-gc-syncs=40',
  '--kube-api-qps=500',
  '--kube-api-burst=1000',
];

/** @param binaries as `kubernetesBinaries` gives it */
export async function runFleet(binaries: string, options: FleetOptions): Promise<FleetRun> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-fleet-'));
  const audit = auditOf(directory, `system:serviceaccount:${SYSTEM}:disklift-controller`);
  const api = await startApiServer(binaries, { controllerManager: true, controllerManagerFlags: CONTROLLER_MANAGER, serverFlags: audit });
  try {
    await using players = openPlayersApi(api.kubeconfig);
    const run = await runOn(api, players, options);
    // Ended before its log is read.
    await api.stop();
    return { ...run, requests: await countRequests(directory) };
  } finally {
    await api.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function runOn(api: ApiServer, players: PlayersApi, options: FleetOptions): Promise<Omit<FleetRun, 'requests'>> {
  const { size, workMs, report } = options;
  for (const crd of ['crd.yaml', 'crd-schedules.yaml'] as const) await installCrd(api, crd);
  const members = membersOf(size);
  await createNamespaces(api, [SYSTEM, ...namespacesOf(size)]);
  await createObjects(players, members, report);
  const stopped = new AbortController();
  const progress = new FleetProgress({ api: players, members, signal: stopped.signal });
  const nodes = startPlayedNodes({ api: players, nodes: nodesOf(size), workMs, signal: stopped.signal });
  try {
    const facts = await runController(api, progress, options);
    const leftovers = await leftoversOf(players);
    return { ...facts, leftovers, problems: [...facts.problems, ...progress.problems, ...nodes.failures] };
  } finally {
    stopped.abort();
    await Promise.all([progress.ended, nodes.ended]);
  }
}

async function createNamespaces(api: ApiServer, names: readonly string[]): Promise<void> {
  await forEach(names, async (name) => {
    const { status, body } = await api.request('/api/v1/namespaces', { method: 'POST', body: { metadata: { name } } });
    assert.equal(status, 201, JSON.stringify(body));
  });
  // Pods need the account.
  await forEach(names, (name) =>
    until(`the account of ${name}`, async () => {
      const { status } = await api.request(`/api/v1/namespaces/${name}/serviceaccounts/default`);
      return status === 200;
    }),
  );
}

async function createObjects({ objects }: PlayersApi, members: readonly Member[], report: FleetOptions['report']): Promise<void> {
  const startMs = performance.now();
  await forEach(members, async (member) => {
    const { metadata } = await objects.persistentVolumeClaims.create(claimOf(member));
    const bound = { phase: 'Bound', accessModes: ['ReadWriteOnce'], capacity: { storage: '10Gi' } };
    await objects.persistentVolumeClaims.patch(metadata, { patch: { status: bound }, subresource: 'status' });
    if (member.nodeName === undefined) return;
    const guest = await objects.pods.create(guestOf(member));
    await objects.pods.patch(guest.metadata, { patch: { status: { phase: 'Running' } }, subresource: 'status' });
  });
  // Not shuffled: the exports of the last namespace are the youngest.
  await forEach(members, (member) => objects.exports.create(exportOf(member)));
  report(`${members.length} exports were created in ${((performance.now() - startMs) / 1000).toFixed(0)} s`);
}

/** As in a pod, if possible: to read a kubeconfig takes a library of 50 MB. */
function startController(api: ApiServer, { kubeconfig, token }: ChartAccount, { limits, program }: FleetOptions): Promise<Service> {
  const isRoot = process.getuid?.() === 0;
  const pod = podLaunch(path.dirname(kubeconfig), { url: api.url, ca: api.ca, token, namespace: SYSTEM });
  const access = isRoot ? [] : ['--kubeconfig', kubeconfig];
  const args = ['controller', ...access, '--worker-image', 'registry.example/disklift:test', '--pod-name', 'fleet'];
  const election = ['--leader-election-namespace', SYSTEM, '--leader-election-lease', 'disklift-controller'];
  const counts = Object.entries({ '': limits.total, '-per-namespace': limits.perNamespace, '-per-node': limits.perNode });
  const limitFlags = counts.flatMap(([suffix, count]) => [`--max-concurrent-jobs${suffix}`, String(count)]);
  const listen = ['--listen-host', '127.0.0.1', '--listen-port', '0'];
  const launch = isRoot ? pod : {};
  return startService({ args: [...args, ...election, ...limitFlags, ...listen], program, ...launch, startMessage: 'controller runs' });
}

async function runController(
  api: ApiServer,
  progress: FleetProgress,
  options: FleetOptions,
): Promise<Omit<FleetRun, 'requests' | 'leftovers'>> {
  const { size, limitMs, report } = options;
  const account = await applyChartAccount(api, SYSTEM, CONTROLLER, { of: 'controller' });
  const startMs = performance.now();
  await using controller = await startController(api, account, options);
  const pid = controller.process.pid as number;
  const samples: Sample[] = [];
  const seconds = { allSeen: Number.NaN, ended: Number.NaN };
  let endedWhenAllWereSeen = Number.NaN;
  let reportedMs = startMs;
  while (progress.endedCount < size.exports) {
    const nowMs = performance.now();
    assert.ok(!hasEnded(controller.process), `the controller has ended: ${controller.output()}`);
    assert.ok(nowMs - startMs < limitMs, `${progress.endedCount} exports have ended; ${progress.jobCount} Jobs`);
    const sample = sampleOf(pid, (nowMs - startMs) / 1000, progress.endedCount);
    samples.push(sample);
    if (Number.isNaN(endedWhenAllWereSeen) && progress.seen.size === size.exports) {
      endedWhenAllWereSeen = sample.ended;
      seconds.allSeen = sample.seconds;
    }
    if (nowMs - reportedMs > REPORT_MS) {
      reportedMs = nowMs;
      report(lineOf(sample, progress));
    }
    await sleep(SAMPLE_MS);
  }
  seconds.ended = (performance.now() - startMs) / 1000;
  samples.push(sampleOf(pid, seconds.ended, progress.endedCount));
  const endMs = performance.now() + REST_MS;
  while (progress.jobCount > 0 && performance.now() < endMs) await sleep(SAMPLE_MS);
  // The accounts of the workers go after the Jobs.
  await sleep(2000);
  const problems = controller.log().filter(({ level, msg }) => /^(warn|error)$/.test(String(level)) && !ABSENT.test(String(msg)));
  assert.equal(await controller.stop(), 0, controller.output());
  return {
    phases: counted(progress.phases.values()),
    most: progress.most,
    samples,
    endedWhenAllWereSeen,
    seconds,
    problems: problems.map(textOf),
  };
}

function textOf({ namespace, export: name, msg }: Record<string, unknown>): string {
  return name === undefined ? String(msg) : `${namespace}/${name}: ${msg}`;
}

function lineOf({ seconds, ended, processorSeconds, residentBytes, anonymousBytes }: Sample, progress: FleetProgress): string {
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
  const memory = `${mb(residentBytes)} resident, ${mb(anonymousBytes)} anonymous`;
  return `${seconds.toFixed(0)} s: ${progress.seen.size} seen, ${ended} ended, ${progress.jobCount} Jobs, ${processorSeconds} s of processor time, ${memory}`;
}

function counted(values: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

async function leftoversOf({ objects }: PlayersApi): Promise<string[]> {
  const found: string[] = [];
  for (const resource of ['jobs', 'pods', 'configMaps', 'serviceAccounts', 'roleBindings'] as const)
    for (const { metadata } of (await objects[resource].list(ALL_NAMESPACES, { labelSelector: MANAGED_SELECTOR })).items)
      found.push(`${resource} ${metadata.namespace}/${metadata.name}`);
  return found;
}
