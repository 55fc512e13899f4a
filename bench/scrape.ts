/**
 * `make bench` measures the cost of watching an export. One sidecar sends the mixed disk over loopback repeatedly:
 * alone, with a scrape every second, and with the status page open as well. Options: --rounds N (default 5),
 * --json FILE, --strict.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { NAMESPACE } from '../test/helpers/manifest.ts';
import { processorSeconds } from '../test/helpers/processor-seconds.ts';
import { benchDisk } from './bench-disks.ts';
import { startBenchSidecar } from './bench-sidecar.ts';
import { median, type Result } from './contest.ts';
import { isMet, machineFacts, printResults, printTargets, type Target } from './report.ts';

const SINK_CPU = '1';
const INTERVAL_MS = 1000;

/** Medians up to this ratio count as equal. */
const LIMIT = 1.05;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, json: { type: 'string' }, strict: { type: 'boolean', default: false } },
});
const rounds = Number(values.rounds);

const disk = await benchDisk('mixed');

const sink = spawn('taskset', ['-c', SINK_CPU, process.execPath, path.join(import.meta.dirname, 'http-sink.ts')], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const [sinkPort] = (await once(sink.stdout, 'data')) as [Buffer];
const url = `http://127.0.0.1:${sinkPort.toString().trim()}/{name}.qcow2`;

const sidecar = await startBenchSidecar({ disk });

type Watching = (port: number, name: string, signal: AbortSignal) => Promise<void>;

let scrapes = 0;
let changes = 0;
let maps = 0;

/** Until `signal` is aborted. */
async function everySecond(task: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await task();
    await sleep(INTERVAL_MS, undefined, { signal }).catch(() => {});
  }
}

const scrape: Watching = (port, _name, signal) =>
  everySecond(async () => {
    const headers = { accept: 'application/openmetrics-text;version=1.0.0' };
    await (await fetch(`http://127.0.0.1:${port}/metrics`, { headers })).text();
    scrapes += 1;
  }, signal);

/** The requests of a page that shows the export and its disk: the changes, and the map more often than needed. */
const page: Watching = async (port, name, signal) => {
  const api = `http://127.0.0.1:${port}/api/v1`;
  async function listen(): Promise<void> {
    const { body } = await fetch(`${api}/changes`, { signal });
    for await (const chunk of body ?? []) changes += Buffer.from(chunk).toString().split('event: changes').length - 1;
  }
  const map = `${api}/exports/${NAMESPACE}/${name}/map?disk=${path.basename(disk)}`;
  async function look(): Promise<void> {
    const response = await fetch(map);
    await response.text();
    // The map does not exist before the disk is open.
    if (response.ok) maps += 1;
  }
  await Promise.all([listen().catch(() => {}), everySecond(look, signal)]);
};

interface Contestant {
  name: string;
  watching: readonly Watching[];
  seconds: number[];
  /** Processor time of the sidecar, which other work of the machine hardly affects. */
  processorSeconds: number[];
}

const sidecarSeconds = () => processorSeconds(sidecar.pid);

async function runWatched(name: string, contestant: Contestant): Promise<void> {
  const ended = new AbortController();
  const before = sidecarSeconds();
  const all = contestant.watching.map((each) => each(sidecar.port, name, ended.signal));
  contestant.seconds.push(await sidecar.exportTo(name, { http: { url } }));
  contestant.processorSeconds.push(sidecarSeconds() - before);
  ended.abort();
  await Promise.all(all);
}

function resultOf(name: string, seconds: readonly number[]): Result {
  const [minSeconds, maxSeconds] = [Math.min(...seconds), Math.max(...seconds)];
  return { name, rounds: seconds.length, medianSeconds: median(seconds), minSeconds, maxSeconds, limited: false };
}

try {
  const contestants: Contestant[] = [
    { name: 'nobody looks', watching: [], seconds: [], processorSeconds: [] },
    { name: 'a scrape every second', watching: [scrape], seconds: [], processorSeconds: [] },
    { name: 'the same, and the page open', watching: [scrape, page], seconds: [], processorSeconds: [] },
  ];
  await sidecar.exportTo('warm-up', { http: { url } });
  for (let round = 1; round <= rounds; round += 1)
    for (const [index, contestant] of contestants.entries()) await runWatched(`watched-${index}-${round}`, contestant);
  if (Math.min(scrapes, changes, maps) === 0) throw new Error('nobody has looked');
  const row = contestants.map(({ name, seconds }) => resultOf(name, seconds));
  printResults(`mixed 8 GiB, warm, by HTTP PUT with SHA-256; ${scrapes} scrapes, ${changes} changes and ${maps} maps of the page`, row);
  const processor = contestants.map(({ name, processorSeconds: own }) => resultOf(name, own));
  printResults('the same in processor time of the sidecar', processor);
  const targets: Target[] = [row, processor].flatMap(([alone, ...others], index) =>
    others.map(({ name, medianSeconds }) => ({
      text: `times the ${index === 0 ? 'time' : 'processor time'} with ${name}`,
      measured: medianSeconds / (alone?.medianSeconds ?? Number.NaN),
      limit: LIMIT,
    })),
  );
  printTargets(targets);
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ machine: machineFacts(), rounds, row, processor, targets }, null, 2)}\n`);
  if (values.strict && !targets.every(isMet)) process.exitCode = 1;
} finally {
  await sidecar.stop();
  sink.kill();
}
