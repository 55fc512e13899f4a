/**
 * `make bench-fleet` measures the controller with a fleet. Options: --exports N, --namespaces N, --nodes N, --jobs N
 * (Jobs at a time), --work-ms N (duration of a played export), --json FILE, --strict; --node-flags "..." for the
 * controller, such as --cpu-prof; --sources runs the sources in place of dist.
 */

import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { growth, processorMsEach } from '../test/cluster/fleet/fleet-samples.ts';
import { type FleetRun, runFleet } from '../test/cluster/fleet/run-fleet.ts';
import { kubernetesBinaries } from '../test/cluster/kubernetes-binaries.ts';
import { imageNodeFlags } from '../test/helpers/image-node-flags.ts';
import { isMet, machineFacts, printTargets, type Target } from './report.ts';

const BIN = path.join(import.meta.dirname, '..', 'dist', 'bin.js');
const LIMIT_MS = 3 * 3_600_000;

/** Half of the container's limit of 512 MiB, as Node takes it there. */
const HEAP_FLAG = '--max-old-space-size=256';

/** A heap that no longer grows still varies by some pages. */
const MAX_GROWTH = 1.05;

const { values } = parseArgs({
  options: {
    exports: { type: 'string', default: '500' },
    namespaces: { type: 'string', default: '20' },
    nodes: { type: 'string', default: '20' },
    jobs: { type: 'string', default: '40' },
    'work-ms': { type: 'string', default: '200' },
    'node-flags': { type: 'string', default: '' },
    sources: { type: 'boolean', default: false },
    json: { type: 'string' },
    strict: { type: 'boolean', default: false },
  },
});
const size = { exports: Number(values.exports), namespaces: Number(values.namespaces), nodes: Number(values.nodes) };
const limits = { total: Number(values.jobs), perNamespace: 5, perNode: 2 };

if (!values.sources && !existsSync(BIN)) throw new Error('dist/bin.js is missing; run `make build` first');
const binaries = kubernetesBinaries();
if (binaries === undefined) throw new Error('the programs of Kubernetes are missing; run `make setup` first');

const nodeFlags = [...imageNodeFlags(), HEAP_FLAG, ...values['node-flags'].split(' ').filter((flag) => flag !== '')];
const run = await runFleet(binaries, {
  size,
  limits,
  workMs: Number(values['work-ms']),
  program: [...nodeFlags, values.sources ? path.join(import.meta.dirname, '..', 'src', 'bin.ts') : BIN],
  limitMs: LIMIT_MS,
  report: (text) => console.log(`  ${text}`),
});

function targetsOf({ samples, most, requests, endedWhenAllWereSeen, phases, leftovers }: FleetRun): Target[] {
  // While the last exports run no other waits, and the time of timers counts.
  const range = size.exports - limits.total - endedWhenAllWereSeen;
  const tenth = (index: number) => endedWhenAllWereSeen + (range * index) / 10;
  const sum = [...requests.values()].reduce((total, count) => total + count, 0);
  const peakBytes = Math.max(...samples.map(({ residentBytes }) => residentBytes));
  return [
    { text: 'exports that did not succeed', measured: size.exports - (phases.get('Succeeded') ?? 0), limit: 0 },
    { text: 'Jobs at a time', measured: most.jobs, limit: limits.total },
    { text: 'Jobs of a namespace at a time', measured: most.jobsOfNamespace, limit: limits.perNamespace },
    { text: 'Jobs at a time that need the same node', measured: most.jobsOfNode, limit: limits.perNode },
    { text: 'exports by which one waiting namespace is ahead of another', measured: most.spread, limit: limits.perNamespace + 5 },
    { text: 'objects left', measured: leftovers.length, limit: 0 },
    { text: 'requests of the controller for each export', measured: sum / size.exports, limit: 25 },
    { text: 'MB of resident memory', measured: peakBytes / 1e6, limit: 200 },
    { text: 'times the memory in the second half of the time', measured: growth(samples), limit: MAX_GROWTH },
    {
      text: 'times the processor time for each export, last tenth to first',
      measured: processorMsEach(samples, tenth(9), tenth(10)) / processorMsEach(samples, tenth(0), tenth(1)),
      limit: 1.2,
    },
  ];
}

const targets = targetsOf(run);
const { samples, seconds, requests, problems } = run;
console.log(`\n${size.exports} exports in ${size.namespaces} namespaces, ${limits.total} Jobs at a time`);
console.log(`  every export was seen after ${seconds.allSeen.toFixed(0)} s, and had ended after ${seconds.ended.toFixed(0)} s`);
const anonymous = Math.max(...samples.map(({ anonymousBytes }) => anonymousBytes)) / 1e6;
const processorMs = ((samples.at(-1)?.processorSeconds ?? Number.NaN) * 1000) / size.exports;
console.log(
  `  processor time of the controller for each export: ${processorMs.toFixed(1)} ms; anonymous memory: ${anonymous.toFixed(0)} MB`,
);
console.log('\nrequests of the controller for each export');
for (const [name, count] of [...requests].sort(([, a], [, b]) => b - a))
  console.log(`  ${(count / size.exports).toFixed(3).padStart(8)}  ${name}`);
if (problems.length > 0) console.log(`\nproblems\n  ${problems.slice(0, 20).join('\n  ')}`);
printTargets(targets);
if (values.json !== undefined) {
  const facts = { machine: machineFacts(), size, limits, seconds, processorMs, requests: Object.fromEntries(requests), targets, samples };
  writeFileSync(values.json, `${JSON.stringify(facts, null, 2)}\n`);
}
if (values.strict && !targets.every(isMet)) process.exitCode = 1;
