/**
 * `make bench` compares disklift export with the tools in use today: whole processes, to one server on loopback.
 * Options: --rounds N (default 5), --json FILE, --only http, s3 (versitygw) or s3-sink, --strict (fail if a target is
 * missed).
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { BENCH_DIR, benchDisk } from './bench-disks.ts';
import { benchRequest, benchVolume } from './bench-request.ts';
import { type Contestant, type Result, runContest } from './contest.ts';
import { measureHttp } from './export-http.ts';
import { measureS3 } from './export-s3.ts';
import { isMet, machineFacts, memoryTarget, printResults, printTargets, type Target } from './report.ts';
import { startBenchS3, startS3Sink } from './s3-server.ts';

const ROOT = path.join(import.meta.dirname, '..');
const DISKLIFT = `${process.execPath} ${path.join(ROOT, 'dist', 'bin.js')}`;
const SINK_CPU = '1';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
    strict: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
if (!existsSync(path.join(ROOT, 'dist', 'bin.js'))) throw new Error('dist/bin.js is missing; run `make build` first');

const results: Record<string, Result[]> = {};

function measure(title: string, contestants: Contestant[]): Result[] {
  const row = runContest(contestants, rounds);
  printResults(title, row);
  results[title] = row;
  return row;
}

console.log(
  Object.entries(machineFacts())
    .map(([key, value]) => `${key}: ${value}`)
    .join(', '),
);

const mixed = await benchDisk('mixed');
const ready = path.join(BENCH_DIR, 'mixed.qcow2');
execFileSync('bash', ['-c', `test -e ${ready} || ${DISKLIFT} stream ${mixed} > ${ready}; cat ${ready} > /dev/null`]);

/** @returns the words that run an export of the mixed disk */
function exportLine(name: string, destination: object, checksum: string, flags = ''): string {
  const file = path.join(BENCH_DIR, `${name}.yaml`);
  writeFileSync(file, JSON.stringify(benchRequest(name, mixed, destination, checksum)));
  return `${DISKLIFT} export -f ${file} --volume ${benchVolume(mixed)} ${flags} > /dev/null`;
}

const contest = { mixed, ready, sinkCpu: SINK_CPU, rounds, exportLine, measure };
const parts: Record<string, () => Promise<Target[]>> = {
  http: () => measureHttp(contest),
  s3: () => measureS3(contest, startBenchS3),
  's3-sink': () => measureS3(contest, startS3Sink),
};
const reached: Target[] = [];
for (const [name, part] of Object.entries(parts)) if ([undefined, name].includes(values.only)) reached.push(...(await part()));
const exports = Object.values(results)
  .flat()
  .filter(({ name }) => name.startsWith('disklift'));
const targets = [...reached, memoryTarget(exports)].filter(({ measured }) => !Number.isNaN(measured));
printTargets(targets);

const jsonFile = values.json ?? path.join(ROOT, '.cache', 'bench', 'export.json');
mkdirSync(path.dirname(jsonFile), { recursive: true });
writeFileSync(jsonFile, `${JSON.stringify({ machine: machineFacts(), rounds, results, targets }, null, 2)}\n`);
console.log(`\nwritten to ${path.relative(process.cwd(), jsonFile)}`);
if (values.strict && !targets.every(isMet)) process.exitCode = 1;
