/**
 * `make bench`: disklift stream against the scripts that people use, qemu-img, and the minimum that the work requires.
 * Options: --rounds N (default 5), --json FILE, --strict (fail when a target is missed).
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { BENCH_DIR, benchDisk } from './bench-disks.ts';
import { type Contestant, type Result, runContest, secondsOf } from './contest.ts';
import { isMet, machineFacts, printResults, printTargets, type Target } from './report.ts';

const ROOT = path.join(import.meta.dirname, '..');
const PEERS = process.env.DISKLIFT_PEERS ?? path.join(ROOT, '..', 'shared', 'peers');
const DISKLIFT = `${process.execPath} ${path.join(ROOT, 'dist', 'bin.js')}`;
const TO_NULL = '| cat > /dev/null';
const DROP_CACHES = 'sync; echo 1 > /proc/sys/vm/drop_caches';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, json: { type: 'string' }, strict: { type: 'boolean', default: false } },
});
const rounds = Number(values.rounds);
if (!existsSync(path.join(ROOT, 'dist', 'bin.js'))) throw new Error('dist/bin.js is missing; run `make build` first');

const results: Record<string, Result[]> = {};

function measure(title: string, contestants: (Contestant | undefined)[], rowRounds = rounds): Result[] {
  const row = runContest(
    contestants.filter((contestant) => contestant !== undefined),
    rowRounds,
  );
  printResults(title, row);
  results[title] = row;
  return row;
}

function script(name: string, disk: string, more: Partial<Contestant> = {}): Contestant | undefined {
  const file = path.join(PEERS, `qcow2-to-stdout-${name}.py`);
  if (!existsSync(file)) return undefined;
  return { name: `script (${name})`, line: `@python3 ${file} ${disk} ${TO_NULL}`, ...more };
}

const ratio = (row: Result[], name: string) => secondsOf(row, name) / (row[0] as Result).medianSeconds;

console.log(
  Object.entries(machineFacts())
    .map(([key, value]) => `${key}: ${value}`)
    .join(', '),
);
if (script('v2', '') === undefined) console.log(`the scripts are left out: ${PEERS} does not hold them (DISKLIFT_PEERS)`);

const mixed = await benchDisk('mixed');
const empty = await benchDisk('empty');
const scattered = await benchDisk('scattered');

const ready = path.join(BENCH_DIR, 'mixed.qcow2');
execFileSync('bash', [
  '-c',
  `${DISKLIFT} stream ${mixed} > ${ready}; qemu-img compare -f raw -F qcow2 ${mixed} ${ready}; cat ${ready} > /dev/null`,
]);

const toPipe = measure('mixed 8 GiB (2 data, 1 zeros, 5 holes), warm, to a pipe', [
  { name: 'disklift', line: `@${DISKLIFT} stream ${mixed} ${TO_NULL}` },
  {
    name: 'limit: read extents, pv ready image',
    line: `python3 ${path.join(ROOT, 'bench', 'read-extents.py')} ${mixed}; pv -q ${ready} ${TO_NULL}`,
  },
  script('reviewed', mixed),
  script('v2', mixed, { rounds: 2 }),
]);

const tmpfs = '/dev/shm/disklift-bench.qcow2';
const touchMemory = `rm -f ${tmpfs}; python3 ${path.join(ROOT, 'bench', 'touch-memory.py')} 3 3`;
const toTmpfs = measure('mixed 8 GiB, warm, to tmpfs', [
  { name: 'disklift', line: `@${DISKLIFT} stream ${mixed} > ${tmpfs}`, prepare: touchMemory },
  { name: 'qemu-img convert', line: `@qemu-img convert -f raw -O qcow2 ${mixed} ${tmpfs}`, prepare: touchMemory },
]);

const ofEmpty = measure('1 TiB empty, to a pipe', [
  { name: 'disklift', line: `@${DISKLIFT} stream ${empty} ${TO_NULL}` },
  { name: 'qemu-img convert to tmpfs', line: `@qemu-img convert -f raw -O qcow2 ${empty} ${tmpfs}`, prepare: `rm -f ${tmpfs}` },
  script('reviewed', empty),
]);

const ofScattered = measure('8 TiB, 1.5 GiB in 4,000 pieces, warm, to a pipe', [
  { name: 'disklift', line: `@${DISKLIFT} stream ${scattered} ${TO_NULL}` },
  { name: 'qemu-img convert to tmpfs', line: `@qemu-img convert -f raw -O qcow2 ${scattered} ${tmpfs}`, prepare: touchMemory },
  script('reviewed', scattered, { rounds: 1, limitSeconds: 60 }),
]);
const warmQcow2 = path.join(BENCH_DIR, 'mixed-by-qemu.qcow2');
execFileSync('bash', ['-c', `qemu-img convert -f raw -O qcow2 ${mixed} ${warmQcow2}; cat ${warmQcow2} > /dev/null`]);
const ofQcow2 = measure('mixed 8 GiB, a qcow2 image, warm, to tmpfs', [
  { name: 'disklift', line: `@${DISKLIFT} stream -f qcow2 ${warmQcow2} > ${tmpfs}`, prepare: touchMemory },
  { name: 'qemu-img convert', line: `@qemu-img convert -f qcow2 -O qcow2 ${warmQcow2} ${tmpfs}`, prepare: touchMemory },
]);

const mixedQcow2 = '/dev/shm/disklift-bench-source.qcow2';
const sourceOf = `rm -f ${mixedQcow2}; qemu-img convert -f raw -O qcow2 ${mixed} ${mixedQcow2}; ${touchMemory}`;
// tmpfs does not report its cached pages, so here all data is read to find zeros.
measure('mixed 8 GiB, a qcow2 image on tmpfs, to tmpfs', [
  { name: 'disklift', line: `@${DISKLIFT} stream -f qcow2 ${mixedQcow2} > ${tmpfs}`, prepare: sourceOf },
  { name: 'qemu-img convert', line: `@qemu-img convert -f qcow2 -O qcow2 ${mixedQcow2} ${tmpfs}`, prepare: sourceOf },
]);
execFileSync('rm', ['-f', tmpfs, mixedQcow2]);

if (process.getuid?.() === 0)
  measure(
    'mixed 8 GiB, cold page cache, to a pipe',
    [
      { name: 'disklift, content', line: `@${DISKLIFT} stream ${mixed} ${TO_NULL}`, prepare: DROP_CACHES },
      { name: 'disklift, extents', line: `@${DISKLIFT} stream --zero-detection extents ${mixed} ${TO_NULL}`, prepare: DROP_CACHES },
      script('reviewed', mixed, { prepare: DROP_CACHES }),
    ],
    Math.min(rounds, 3),
  );
else console.log('\nthe row with a cold page cache is left out: only root may drop the cache');

const targets: Target[] = [
  { text: 'times the speed of the faster script', measured: ratio(toPipe, 'script (reviewed)'), limit: 3.5, atLeast: true },
  { text: 'times the limit', measured: 1 / ratio(toPipe, 'limit: read extents, pv ready image'), limit: 1.5 },
  { text: 'times the time of qemu-img convert to tmpfs', measured: 1 / ratio(toTmpfs, 'qemu-img convert'), limit: 1 },
  { text: 'times the time of qemu-img convert, a qcow2 image to tmpfs', measured: 1 / ratio(ofQcow2, 'qemu-img convert'), limit: 1 },
  { text: 'seconds for 1 TiB empty', measured: (ofEmpty[0] as Result).medianSeconds, limit: 0.5 },
  { text: 'seconds for 8 TiB scattered', measured: (ofScattered[0] as Result).medianSeconds, limit: 4 },
  {
    text: 'MiB of memory at the most',
    measured: Math.max(
      ...Object.values(results).flatMap((row) => row.filter(({ name }) => name.startsWith('disklift')).map(({ peakMib }) => peakMib ?? 0)),
    ),
    limit: 150,
  },
].filter(({ measured }) => !Number.isNaN(measured));
printTargets(targets);

const jsonFile = values.json ?? path.join(ROOT, '.cache', 'bench', 'stream.json');
mkdirSync(path.dirname(jsonFile), { recursive: true });
writeFileSync(jsonFile, `${JSON.stringify({ machine: machineFacts(), rounds, results, targets }, null, 2)}\n`);
console.log(`\nwritten to ${path.relative(process.cwd(), jsonFile)}`);
if (values.strict && !targets.every(isMet)) process.exitCode = 1;
