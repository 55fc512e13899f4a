/**
 * `make bench` measures the memory of exports that run at the same time. A sidecar starts as in the container image. It
 * sends the mixed disk with SHA-256 to S3 over https, to a server that stores nothing. Options: --json FILE, --strict.
 */

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { imageNodeFlags } from '../test/helpers/image-node-flags.ts';
import { peakMemoryBytes } from '../test/helpers/process-memory.ts';
import { benchDisk } from './bench-disks.ts';
import { startBenchSidecar } from './bench-sidecar.ts';
import type { Result } from './contest.ts';
import { isMet, machineFacts, memoryTarget, printResults, printTargets } from './report.ts';
import { destinationIn, startS3Sink } from './s3-server.ts';

const SINK_CPU = '1';
const MOST = 4;
const BYTES_OF_MIB = 1024 * 1024;

const { values } = parseArgs({ options: { json: { type: 'string' }, strict: { type: 'boolean', default: false } } });
const disk = await benchDisk('mixed');
const s3 = await startS3Sink(SINK_CPU);
const destination = { s3: destinationIn(s3, '{name}.qcow2') };

async function measure(count: number, name: string, nodeFlags: readonly string[]): Promise<Result> {
  const flags = ['--max-concurrent-exports', `${MOST}`, '--allow-ambient-credentials'];
  const sidecar = await startBenchSidecar({ disk, flags, nodeFlags, env: s3.environment });
  try {
    const names = Array.from({ length: count }, (_, index) => `at-once-${index}`);
    const seconds = Math.max(...(await Promise.all(names.map((each) => sidecar.exportTo(each, destination)))));
    const peakMib = peakMemoryBytes(sidecar.pid) / BYTES_OF_MIB;
    return { name, rounds: 1, medianSeconds: seconds, minSeconds: seconds, maxSeconds: seconds, peakMib, limited: false };
  } finally {
    await sidecar.stop();
  }
}

try {
  const flags = imageNodeFlags();
  const row: Result[] = [];
  for (const count of [1, 2, MOST]) row.push(await measure(count, `${count} at once`, flags));
  row.push(await measure(MOST, `${MOST} at once, without ${flags.join(' ')}`, []));
  printResults('mixed 8 GiB, warm, to S3 over https, with SHA-256', row);
  const targets = [memoryTarget(row.slice(0, -1))];
  printTargets(targets);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine: machineFacts(), row, targets }, null, 2)}\n`);
  if (values.strict && !targets.every(isMet)) process.exitCode = 1;
} finally {
  await s3.stop();
}
