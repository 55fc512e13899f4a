/**
 * `node bench/start-up.ts [BIN...]` makes the measurements of docs/decisions/0011-start-up.md: the time of whole runs
 * that have nothing to send. Each BIN is the bin.js of a build. The builds run in turn.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { MIB } from '../src/common/bytes.ts';
import { BENCH_DIR } from './bench-disks.ts';
import { benchRequest, benchVolume } from './bench-request.ts';
import { median } from './contest.ts';
import { machineFacts } from './report.ts';

const ROUNDS = 15;

const volume = path.join(BENCH_DIR, 'start-up');
const disk = path.join(volume, 'disk.img');
const manifest = path.join(BENCH_DIR, 'start-up.yaml');
mkdirSync(volume, { recursive: true });
writeFileSync(disk, '');
truncateSync(disk, MIB);
// No server listens there.
const nowhere = { http: { url: 'http://127.0.0.1:1/disk.qcow2' } };
writeFileSync(manifest, JSON.stringify(benchRequest('start-up', disk, nowhere, 'None')));

const COMMANDS = {
  version: ['--version'],
  stream: ['stream', disk],
  export: ['export', '-f', manifest, '--volume', benchVolume(disk)],
};

interface Run {
  wallMs: number;
  /** Processor time of all threads, in user mode and in the kernel. */
  cpuMs: number;
}

/** Node does not report the CPU time of a child, and bash does. */
function runOnce(args: readonly string[]): Run {
  const { stderr } = spawnSync(
    'bash',
    ['-c', 'TIMEFORMAT="%R %U %S"; time "$@" > /dev/null 2> /dev/null', 'bash', process.execPath, ...args],
    {
      encoding: 'utf8',
    },
  );
  const [real = 0, user = 0, system = 0] = stderr
    .trim()
    .split(' ')
    .map((seconds) => Number(seconds) * 1000);
  return { wallMs: real, cpuMs: user + system };
}

const bins = process.argv.length > 2 ? process.argv.slice(2) : ['dist/bin.js'];
const contestants = [
  { name: 'node alone', args: ['--eval', ''], runs: [] as Run[] },
  ...Object.entries(COMMANDS).flatMap(([command, args]) =>
    bins.map((bin) => ({ name: `${command} by ${bin}`, args: [bin, ...args], runs: [] as Run[] })),
  ),
];
for (let round = 0; round <= ROUNDS; round += 1)
  for (const { args, runs } of contestants) {
    const run = runOnce(args);
    // The first run warms up.
    if (round > 0) runs.push(run);
  }
console.log(machineFacts());
console.log(`medians of ${ROUNDS}: wall time, CPU time`);
for (const { name, runs } of contestants) {
  const [wallMs, cpuMs] = [median(runs.map((run) => run.wallMs)), median(runs.map((run) => run.cpuMs))];
  console.log(`${wallMs.toFixed(0).padStart(6)} ms ${cpuMs.toFixed(0).padStart(6)} ms  ${name}`);
}
