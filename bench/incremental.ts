/**
 * `make bench-incremental` measures a delta by libvirt's dirty bitmap. Beside it run a full image of the same disk,
 * virtnbdbackup, copy-on-read by qemu-io, and a program that only reads the changed extents. Needs root.
 * Options: --size GIB (default 64), --changed PERCENT (default 1), --rounds N (default 5), --full-rounds N (default 1),
 * --json FILE, --strict (fail when a target is missed).
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Contestant, type Result, runContest, secondsOf } from './contest.ts';
import { CHECKPOINT, startIncrementalMachine, virtnbdbackupLine } from './incremental-machine.ts';
import { isMet, machineFacts, printResults, printTargets, type Target } from './report.ts';

const ROOT = path.join(import.meta.dirname, '..');
const DISKLIFT = `${process.execPath} ${path.join(ROOT, 'dist', 'bin.js')}`;
const DROP_CACHES = 'sync; echo 1 > /proc/sys/vm/drop_caches';
const CONTEXT = 'qemu:dirty-bitmap:backup-vda';
const DELTA = 'disklift, delta';
const ONE_READ = 'disklift, delta, one read';
const READER = 'limit: read what has changed';
const FULL = 'disklift, full image';

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '64' },
    changed: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '5' },
    'full-rounds': { type: 'string', default: '1' },
    json: { type: 'string' },
    strict: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const fullRounds = Number(values['full-rounds']);
if (!existsSync(path.join(ROOT, 'dist', 'bin.js'))) throw new Error('dist/bin.js is missing; run `make build` first');

console.log(
  Object.entries(machineFacts())
    .map(([key, value]) => `${key}: ${value}`)
    .join(', '),
);
const results: Record<string, Result[]> = {};
await using machine = await startIncrementalMachine(Number(values.size), Number(values.changed));
const { guest, directory, qemuPid, changedBytes } = machine;
const placeOf = (kind: string, name: string) => path.join(directory, `${kind}-${name.replaceAll(/[^a-z]/g, '-')}`);
const numberIn = (kind: string, name: string) => {
  const file = placeOf(kind, name);
  return existsSync(file) ? Number(readFileSync(file, 'utf8')) : Number.NaN;
};

/** Counts the bytes that arrive, and those that QEMU reads from the disk meanwhile. */
function counted({ line, ...contestant }: Contestant): Contestant {
  const readBytes = `awk '/^rchar/ {print $2}' /proc/${qemuPid}/io`;
  const lines = [`B=$(${readBytes})`, line.replace('|>', `| wc -c > ${placeOf('sent', contestant.name)}`)];
  return { ...contestant, line: `${lines.join('; ')} && echo $(($(${readBytes}) - B)) > ${placeOf('read', contestant.name)}` };
}

function measure(title: string, contestants: readonly Contestant[], rowRounds: number): Result[] {
  const row = runContest(contestants.map(counted), rowRounds);
  printResults(title, row);
  results[title] = row;
  for (const { name } of row) {
    const mib = (kind: string) => (numberIn(kind, name) / 1024 / 1024).toFixed(1);
    console.log(`  ${name.padEnd(34)} ${mib('sent')} MiB sent, ${mib('read')} MiB read by QEMU`);
  }
  return row;
}

const title = `${values.size} GiB full of data, ${(changedBytes / 1024 / 1024).toFixed(0)} MiB changed in runs of 64 KiB to 1 MiB`;
const uri = await guest.beginBackup('measured', CHECKPOINT);
const changed = `--changed ${CONTEXT} --base base.raw --base-format raw`;
const copied = '/dev/shm/disklift-bench-copied.qcow2';
const options = `driver=nbd,export=vda,server.type=unix,server.path=${path.join(directory, 'nbd.sock')},x-dirty-bitmap=${CONTEXT}`;
// qemu-img map shows changed bytes of x-dirty-bitmap as "data": false.
const readCommands = `qemu-img map --output=json --image-opts ${options} | python3 -c 'import json,sys
for e in json.load(sys.stdin):
  if not e["data"]:
    for at in range(e["start"], e["start"] + e["length"], 1 << 30): print("read -q", at, min(1 << 30, e["start"] + e["length"] - at))'`;

const contestants: Contestant[] = [
  { name: DELTA, line: `@${DISKLIFT} stream '${uri}' ${changed} |>` },
  { name: ONE_READ, line: `@${DISKLIFT} stream '${uri}' ${changed} --zero-detection extents --verify never |>` },
  { name: READER, line: `@/usr/bin/python3 ${path.join(ROOT, 'bench', 'read-changed.py')} '${uri}' ${CONTEXT} > /dev/null` },
  {
    name: 'qemu-io, copy on read to tmpfs',
    line: `rm -f ${copied}; qemu-img create -q -f qcow2 -F raw -b '${uri}' ${copied}; ${readCommands} | qemu-io -C -f qcow2 ${copied} > /dev/null && cat ${copied} |>`,
  },
];
const warm = measure(`${title}, warm`, contestants, rounds);
const cold = measure(
  `${title}, cold page cache`,
  contestants.map((contestant) => ({ ...contestant, prepare: DROP_CACHES })),
  rounds,
);
execFileSync('rm', ['-f', copied]);
const [volume, blocks] = [path.join(directory, 'volume'), path.join(directory, 'base.blocks')];
execFileSync('bash', ['-c', `${DISKLIFT} stream ${volume}/base.raw --write-blocks ${blocks} > /dev/null`], {
  stdio: ['ignore', 'ignore', 'inherit'],
});
const hashed = `--changed blocks:${blocks} --base base.raw --base-format raw`;
// A limit leaves out the warm-up, which would read the whole disk as well.
const fulls = measure(
  `${title}: the whole disk is read`,
  [
    { name: FULL, line: `@${DISKLIFT} stream '${uri}' |>`, limitSeconds: 3600 },
    { name: 'disklift, delta by block hashes', line: `@${DISKLIFT} stream '${uri}' ${hashed} |>`, limitSeconds: 3600 },
  ],
  fullRounds,
);

// The measured delta is right: on the base it is the disk of the backup.
const delta = path.join(volume, 'delta.qcow2');
execFileSync('bash', ['-c', `${DISKLIFT} stream '${uri}' ${changed} > ${delta} && qemu-img compare -f raw -F qcow2 '${uri}' ${delta}`], {
  stdio: ['ignore', 'ignore', 'inherit'],
});
await guest.endBackup();
// virtnbdbackup refuses to run beside checkpoints that it has not made.
await guest.virsh('checkpoint-delete', 'guest', 'measured');

if (spawnSync('virtnbdbackup', ['--version']).status === 0) {
  const target = path.join(directory, 'virtnbdbackup');
  const line = virtnbdbackupLine(guest, `-l diff -o ${target}`);
  const prepare = `rm -f ${target}/*diff*`;
  measure(
    `${title}, warm: with its own backup job`,
    [
      {
        name: 'virtnbdbackup, differential',
        prepare,
        line: `${line} > ${target}.log 2>&1 || { cat ${target}.log >&2; false; } && cat ${target}/*.diff.*data |>`,
      },
    ],
    rounds,
  );
} else console.log('virtnbdbackup is left out: it is not installed');

const ofReader = (row: Result[], name: string) => secondsOf(row, name) / secondsOf(row, READER);
const targets: Target[] = [
  { text: "% of the full image's bytes sent", measured: (100 * numberIn('sent', DELTA)) / numberIn('sent', FULL), limit: 3 },
  { text: 'times the reading of the changes, one read, cold', measured: ofReader(cold, ONE_READ), limit: 1.3 },
  { text: 'times the reading of the changes, one read, warm', measured: ofReader(warm, ONE_READ), limit: 1.3 },
  { text: 'times the reading of the changes, cold', measured: ofReader(cold, DELTA), limit: 1.3 },
  { text: 'times the reading of the changes, warm', measured: ofReader(warm, DELTA), limit: 1.3 },
  { text: "% of the full image's time", measured: (100 * secondsOf(cold, DELTA)) / secondsOf(fulls, FULL), limit: 10 },
];
printTargets(targets);

const jsonFile = values.json ?? path.join(ROOT, '.cache', 'bench', 'incremental.json');
mkdirSync(path.dirname(jsonFile), { recursive: true });
writeFileSync(jsonFile, `${JSON.stringify({ machine: machineFacts(), rounds, results, targets }, null, 2)}\n`);
console.log(`\nwritten to ${path.relative(process.cwd(), jsonFile)}`);
if (values.strict && !targets.every(isMet)) process.exitCode = 1;
