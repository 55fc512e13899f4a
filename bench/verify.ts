/** `node bench/verify.ts`: the measurements behind docs/decisions/0010-verify.md. */

import { systemClock } from '../src/common/clock.ts';
import { createLimiter } from '../src/common/limiter.ts';
import { prepareImage, type Verify } from '../src/image/prepare-image.ts';
import { loadLibc } from '../src/native/libc.ts';
import type { DiskSource } from '../src/sources/contract.ts';
import { openDisk } from '../src/sources/open-disk.ts';
import { benchDisk } from './bench-disks.ts';
import { median } from './contest.ts';
import { machineFacts } from './report.ts';

process.env.UV_THREADPOOL_SIZE ??= '12';

const ROUNDS = 9;

const path = await benchDisk('mixed');
const context = { libc: loadLibc(), readLimit: createLimiter(8), warn: console.warn };
const { signal } = new AbortController();

/** Without the look at cached clusters, which block devices do not allow either. */
async function openWithoutLook(): Promise<DiskSource> {
  const { showsData: _, ...source } = await openDisk(path, context);
  return source;
}

interface Way {
  name: string;
  verify: Verify;
  openSource: () => Promise<DiskSource>;
  scans: Cost[];
  streams: Cost[];
}

interface Cost {
  seconds: number;
  /** Processor time of all threads, in user and kernel mode. */
  processorSeconds: number;
}

const openWithLook = () => openDisk(path, context);
const ways: Way[] = [
  { name: 'never', verify: 'never', openSource: openWithLook, scans: [], streams: [] },
  { name: 'never, all read by the scan', verify: 'never', openSource: openWithoutLook, scans: [], streams: [] },
  { name: 'always', verify: 'always', openSource: openWithLook, scans: [], streams: [] },
];

async function costOf(task: () => Promise<void>): Promise<Cost> {
  const startMs = performance.now();
  const before = process.cpuUsage();
  await task();
  const { user, system } = process.cpuUsage(before);
  return { seconds: (performance.now() - startMs) / 1000, processorSeconds: (user + system) / 1e6 };
}

console.log(machineFacts());
console.log(`2 GiB of data and 1 GiB of zeros, warm, read and thrown away, medians of ${ROUNDS}`);
for (let round = 0; round < ROUNDS; round += 1)
  for (const { verify, openSource, scans, streams } of ways) {
    const qcow2 = { clusterSizeBytes: 65_536, refcountBits: 16, version: 3 } as const;
    const options = { qcow2, zeroDetection: 'content', verify, openSource, signal, clock: systemClock, warn: console.warn } as const;
    let prepared: Awaited<ReturnType<typeof prepareImage>> | undefined;
    const scan = await costOf(async () => {
      prepared = await prepareImage(options);
    });
    const stream = await costOf(async () => {
      for await (const _ of prepared?.image.stream({ signal }) ?? []);
      await prepared?.seal();
    });
    await prepared?.[Symbol.asyncDispose]();
    scans.push(scan);
    streams.push(stream);
  }

const text = (costs: readonly Cost[]) => {
  const [seconds, processor] = [median(costs.map((cost) => cost.seconds)), median(costs.map((cost) => cost.processorSeconds))];
  return `${seconds.toFixed(2)} s (processor ${processor.toFixed(2)} s)`;
};
for (const { name, scans, streams } of ways) console.log(`  ${name.padEnd(28)} scan ${text(scans)}, stream and seal ${text(streams)}`);
