/** `node bench/cached-look.ts`: the measurements behind docs/decisions/0005-cached-clusters.md. */

import { createLimiter } from '../src/common/limiter.ts';
import { scanDisk } from '../src/image/scan.ts';
import { loadLibc } from '../src/native/libc.ts';
import type { DiskSource } from '../src/sources/contract.ts';
import { openDisk } from '../src/sources/open-disk.ts';
import { benchDisk } from './bench-disks.ts';
import { median } from './contest.ts';
import { machineFacts } from './report.ts';

process.env.UV_THREADPOOL_SIZE ??= '12';

const ROUNDS = 15;

const source = await openDisk(await benchDisk('mixed'), { libc: loadLibc(), readLimit: createLimiter(8), warn: console.warn });
const { showsData: _, ...readOnly } = source;
const ways: [string, DiskSource, seconds: number[]][] = [
  ['looks first', source, []],
  ['reads all', readOnly, []],
];

async function secondsToScan(disk: DiskSource): Promise<number> {
  const startMs = performance.now();
  await scanDisk({ source: disk, clusterSizeBytes: 65_536, zeroDetection: 'content', signal: new AbortController().signal });
  return (performance.now() - startMs) / 1000;
}

console.log(machineFacts());
console.log(`scan of 2 GiB of data and 1 GiB of zeros, warm, median of ${ROUNDS}`);
for (const [, disk] of ways) await secondsToScan(disk);
for (let round = 0; round < ROUNDS; round += 1) for (const [, disk, seconds] of ways) seconds.push(await secondsToScan(disk));
const reference = median(ways[0]?.[2] ?? []);
for (const [name, , seconds] of ways)
  console.log(`  ${name.padEnd(12)} ${median(seconds).toFixed(3)} s, ${(median(seconds) / reference).toFixed(2)} x`);
await source.dispose();
