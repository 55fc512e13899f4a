/**
 * `make bench`: what it costs an export to be watched. One sidecar sends the mixed disk over loopback again and again, in turn
 * with nobody looking and with Prometheus' scrape every second. Options: --rounds N (default 5), --json FILE, --strict.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { benchDisk } from './bench-disks.ts';
import { median, type Result } from './contest.ts';
import { isMet, machineFacts, printResults, printTargets, type Target } from './report.ts';

const ROOT = path.join(import.meta.dirname, '..');
const BIN = path.join(ROOT, 'dist', 'bin.js');
const SINK_CPU = '1';
const SCRAPE_INTERVAL_MS = 1000;

/** Medians that are as near as this are the same: the issue's own limit. */
const LIMIT = 1.05;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, json: { type: 'string' }, strict: { type: 'boolean', default: false } },
});
const rounds = Number(values.rounds);
if (!existsSync(BIN)) throw new Error('dist/bin.js is missing; run `make build` first');

const disk = await benchDisk('mixed');
const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-bench-'));
mkdirSync(path.join(directory, 'requests'));

const sink = spawn('taskset', ['-c', SINK_CPU, process.execPath, path.join(ROOT, 'bench', 'http-sink.ts')], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const [sinkPort] = (await once(sink.stdout, 'data')) as [Buffer];
const url = `http://127.0.0.1:${sinkPort.toString().trim()}/{name}.qcow2`;

const flags = ['--requests', path.join(directory, 'requests'), '--volume', `bench=${path.dirname(disk)}`];
const local = ['--listen-host', '127.0.0.1', '--listen-port', '0', '--allow-destination', '127.0.0.1'];
const sidecar = spawn(process.execPath, [BIN, 'sidecar', ...flags, ...local], { stdio: ['ignore', 'inherit', 'pipe'] });

interface LogLine {
  time: string;
  msg: string;
  export?: string;
  port?: number;
  phase?: string;
}

const log = createInterface(sidecar.stderr)[Symbol.asyncIterator]();

async function nextLine(isIt: (line: LogLine) => boolean): Promise<LogLine> {
  for (;;) {
    const { value, done } = await log.next();
    if (done) throw new Error('the sidecar has ended');
    const line = JSON.parse(value) as LogLine;
    if (isIt(line)) return line;
  }
}

/** @returns how long the export took, from its claim to its end, as the sidecar tells it */
async function exportSeconds(name: string): Promise<number> {
  const source = { persistentVolumeClaim: { claimName: 'bench' }, disks: [{ path: path.basename(disk) }] };
  const spec = { source, destination: { http: { url } }, backoffLimit: 0 };
  const request = { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', metadata: { name, namespace: 'bench' }, spec };
  const file = path.join(directory, 'requests', `${name}.yaml`);
  writeFileSync(`${file}.new`, JSON.stringify(request));
  renameSync(`${file}.new`, file);
  const begin = await nextLine(({ msg, export: of }) => msg === 'export claimed' && of === name);
  const end = await nextLine(({ msg, export: of }) => msg === 'export has ended' && of === name);
  if (end.phase !== 'Succeeded') throw new Error(`${name}: ${end.phase}`);
  return (Date.parse(end.time) - Date.parse(begin.time)) / 1000;
}

let scrapes = 0;

function startScraping(port: number): { stop(): void } {
  const timer = setInterval(async () => {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { accept: 'application/openmetrics-text;version=1.0.0' } });
    await response.text();
    scrapes += 1;
  }, SCRAPE_INTERVAL_MS);
  return { stop: () => clearInterval(timer) };
}

function resultOf(name: string, seconds: readonly number[]): Result {
  const [minSeconds, maxSeconds] = [Math.min(...seconds), Math.max(...seconds)];
  return { name, rounds: seconds.length, medianSeconds: median(seconds), minSeconds, maxSeconds, limited: false };
}

try {
  const { port = 0 } = await nextLine(({ msg }) => msg === 'sidecar runs');
  const [alone, watched]: [number[], number[]] = [[], []];
  await exportSeconds('warm-up');
  for (let round = 1; round <= rounds; round += 1) {
    alone.push(await exportSeconds(`alone-${round}`));
    const scraping = startScraping(port);
    watched.push(await exportSeconds(`watched-${round}`));
    scraping.stop();
  }
  const row = [resultOf('nobody looks', alone), resultOf('a scrape every second', watched)];
  printResults(`mixed 8 GiB, warm, by HTTP PUT with SHA-256, ${scrapes} scrapes`, row);
  const targets: Target[] = [{ text: 'times as long with a scrape every second', measured: median(watched) / median(alone), limit: LIMIT }];
  printTargets(targets);
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ machine: machineFacts(), rounds, row, targets }, null, 2)}\n`);
  if (values.strict && !targets.every(isMet)) process.exitCode = 1;
} finally {
  // It writes a last status yet.
  sidecar.kill();
  if (sidecar.exitCode === null) await once(sidecar, 'exit');
  sink.kill();
  rmSync(directory, { recursive: true, force: true });
}
