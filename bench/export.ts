/**
 * `make bench`: disklift export against what people do today, over loopback to one and the same server, whole processes.
 * Options: --rounds N (default 5), --json FILE, --only http, --strict (fail when a target is missed).
 */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { BENCH_DIR, benchDisk } from './bench-disks.ts';
import { type Contestant, type Result, runContest } from './contest.ts';
import { isMet, machineFacts, printResults, printTargets, type Target } from './report.ts';
import { type BenchS3, startBenchS3 } from './s3-server.ts';
import { uploaders } from './uploaders.ts';

const ROOT = path.join(import.meta.dirname, '..');
const PEERS = process.env.DISKLIFT_PEERS ?? path.join(ROOT, '..', 'shared', 'peers');
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

function measure(title: string, contestants: (Contestant | undefined)[]): Result[] {
  const row = runContest(
    contestants.filter((contestant) => contestant !== undefined),
    rounds,
  );
  printResults(title, row);
  results[title] = row;
  return row;
}

const secondsOf = (row: Result[], name: string) => row.find((result) => result.name === name)?.medianSeconds ?? Number.NaN;

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
  const source = { persistentVolumeClaim: { claimName: 'bench' }, disks: [{ path: path.basename(mixed) }] };
  const request = {
    apiVersion: 'disklift.dev/v1alpha1',
    kind: 'DiskExport',
    metadata: { name },
    spec: { source, destination, checksum, backoffLimit: 0 },
  };
  writeFileSync(file, JSON.stringify(request));
  return `${DISKLIFT} export -f ${file} --volume bench=${path.dirname(mixed)} ${flags} > /dev/null`;
}

async function withBenchS3() {
  const s3 = await startBenchS3(SINK_CPU);
  return measureS3(s3).finally(s3.stop);
}

async function measureS3(s3: BenchS3) {
  const s3Destination = {
    s3: { endpoint: s3.endpoint, region: 'us-east-1', bucket: s3.bucket, key: 'disklift.qcow2', forcePathStyle: true },
  };
  const others = uploaders(ready, s3);
  const s3Line = (name: string, checksum: string) => `${s3.environment} @${exportLine(name, s3Destination, checksum)}`;
  const overS3 = measure('mixed 8 GiB, warm, to S3 (versitygw on tmpfs)', [
    { name: 'disklift, checksum None', line: s3Line('s3-none', 'None'), prepare: s3.clean },
    { name: 'disklift, SHA-256', line: s3Line('s3-sha256', 'SHA256'), prepare: s3.clean },
    ...others.map(({ name, line }) => ({ name: `${name}, ready image`, line, prepare: s3.clean, limitSeconds: 60 })),
  ]);
  const best = others.toSorted((a, b) => secondsOf(overS3, `${a.name}, ready image`) - secondsOf(overS3, `${b.name}, ready image`))[0];
  if (best === undefined) return { overS3, best, overTemporary: [] };
  const converted = path.join(BENCH_DIR, 'converted.qcow2');
  const overTemporary = measure('mixed 8 GiB, warm, to S3, against a temporary file', [
    { name: 'disklift, checksum None', line: s3Line('s3-none', 'None'), prepare: s3.clean },
    {
      name: `qemu-img convert, then ${best.name}`,
      line: `qemu-img convert -f raw -O qcow2 ${mixed} ${converted}; ${best.line.replaceAll(ready, converted)}`,
      prepare: `${s3.clean}; rm -f ${converted}`,
    },
  ]);
  execFileSync('rm', ['-f', converted]);
  return { overS3, best, overTemporary };
}

/** The last pass as `--progress json` tells it. */
function transferSeconds(stderr: string): number {
  const last = stderr.trim().split('\n').at(-1) ?? '';
  return (JSON.parse(last) as { elapsedSeconds: number }).elapsedSeconds;
}

const sink = spawn('taskset', ['-c', SINK_CPU, process.execPath, path.join(ROOT, 'bench', 'http-sink.ts')], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const [portText] = (await once(sink.stdout, 'data')) as [Buffer];
const url = `http://127.0.0.1:${portText.toString().trim()}/mixed.qcow2`;
const curl = `curl -sSf -T ${ready} ${url} -o /dev/null`;
const script = path.join(PEERS, 'qcow2-to-stdout-reviewed.py');

const overHttp = measure('mixed 8 GiB (2 data, 1 zeros, 5 holes), warm, by HTTP PUT', [
  { name: 'disklift, checksum None', line: `@${exportLine('none', { http: { url } }, 'None')}` },
  { name: 'disklift, SHA-256', line: `@${exportLine('sha256', { http: { url } }, 'SHA256')}` },
  {
    name: 'disklift, checksum None, transfer alone',
    line: exportLine('none', { http: { url } }, 'None', '--progress json'),
    secondsIn: transferSeconds,
  },
  { name: 'curl -T ready image', line: `@${curl}` },
  { name: 'openssl dgst, then curl -T', line: `openssl dgst -sha256 ${ready} > /dev/null; ${curl}` },
  existsSync(script)
    ? { name: 'script | curl -T -', line: `python3 ${script} ${mixed} | curl -sSf -T - ${url} -o /dev/null`, rounds: Math.min(rounds, 3) }
    : undefined,
]);
sink.kill();

const { overS3, best, overTemporary } = values.only === 'http' ? { overS3: [], best: undefined, overTemporary: [] } : await withBenchS3();

const none = secondsOf(overHttp, 'disklift, checksum None');
const peaks = Object.values(results)
  .flat()
  .filter(({ name }) => name.startsWith('disklift'))
  .map(({ peakMib }) => peakMib ?? 0);
const targets: Target[] = [
  {
    text: 'times curl -T of the ready image, the transfer alone',
    measured: secondsOf(overHttp, 'disklift, checksum None, transfer alone') / secondsOf(overHttp, 'curl -T ready image'),
    limit: 1,
  },
  { text: 'times curl -T of the ready image, the whole', measured: none / secondsOf(overHttp, 'curl -T ready image'), limit: 1.5 },
  { text: 'times the speed of script | curl', measured: secondsOf(overHttp, 'script | curl -T -') / none, limit: 2.2, atLeast: true },
  {
    text: 'times openssl dgst and curl -T together, with SHA-256',
    measured: secondsOf(overHttp, 'disklift, SHA-256') / secondsOf(overHttp, 'openssl dgst, then curl -T'),
    limit: 1,
  },
  {
    text: 'times the best upload of the ready image, S3',
    measured: secondsOf(overS3, 'disklift, checksum None') / secondsOf(overS3, `${best?.name}, ready image`),
    limit: 1.3,
  },
  {
    text: 'times the speed of convert, then upload, S3',
    measured: (overTemporary[1]?.medianSeconds ?? Number.NaN) / (overTemporary[0]?.medianSeconds ?? Number.NaN),
    limit: 1.5,
    atLeast: true,
  },
  { text: 'MiB of memory at the most', measured: Math.max(...peaks), limit: 250 },
].filter(({ measured }) => !Number.isNaN(measured));
printTargets(targets);

const jsonFile = values.json ?? path.join(ROOT, '.cache', 'bench', 'export.json');
mkdirSync(path.dirname(jsonFile), { recursive: true });
writeFileSync(jsonFile, `${JSON.stringify({ machine: machineFacts(), rounds, results, targets }, null, 2)}\n`);
console.log(`\nwritten to ${path.relative(process.cwd(), jsonFile)}`);
if (values.strict && !targets.every(isMet)) process.exitCode = 1;
