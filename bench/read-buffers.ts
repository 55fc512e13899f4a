/** `node bench/read-buffers.ts`: the measurements behind docs/decisions/0002-read-buffers.md. */

import fs from 'node:fs';
import { createRequire } from 'node:module';
import { benchDisk, REGION } from './bench-disks.ts';
import { median } from './contest.ts';
import { machineFacts } from './report.ts';

process.env.UV_THREADPOOL_SIZE ??= '12';

const ROUNDS = 7;
const READ_SIZE_BYTES = 1024 * 1024;
const READS_IN_FLIGHT = 8;
const PAGE_SIZE_BYTES = 4096;
const REFERENCE = 64;
const PLACES = [REFERENCE, 16, 32, 128, 2048, 4088];

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
const fd = fs.openSync(await benchDisk('mixed'), 'r');
const allocations = Array.from({ length: READS_IN_FLIGHT }, () => Buffer.allocUnsafeSlow(READ_SIZE_BYTES + 2 * PAGE_SIZE_BYTES));

/** The same allocations, each used from `place` bytes behind the start of a page on. */
function buffersAt(place: number): Buffer[] {
  return allocations.map((allocation) => {
    const within = Number(BigInt(koffi.address(allocation)) % BigInt(PAGE_SIZE_BYTES));
    const skip = (place - within + PAGE_SIZE_BYTES) % PAGE_SIZE_BYTES;
    return allocation.subarray(skip, skip + READ_SIZE_BYTES);
  });
}

function readInto(buffer: Buffer, offset: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.read(fd, buffer, 0, buffer.length, offset, (error) => (error === null ? resolve() : reject(error)));
  });
}

async function secondsToReadAll(buffers: readonly Buffer[]): Promise<number> {
  const offsets: number[] = [];
  for (let region = 0; region < REGION.count; region += 1)
    for (let at = 0; at < REGION.dataBytes; at += READ_SIZE_BYTES) offsets.push(region * REGION.sizeBytes + at);
  const startMs = performance.now();
  await Promise.all(
    buffers.map(async (buffer) => {
      for (let offset = offsets.pop(); offset !== undefined; offset = offsets.pop()) await readInto(buffer, offset);
    }),
  );
  return (performance.now() - startMs) / 1000;
}

console.log(machineFacts());
console.log(`2 GiB of warm file data in reads of 1 MiB, ${READS_IN_FLIGHT} in flight, median of ${ROUNDS}`);
const seconds = new Map(PLACES.map((place) => [place, [] as number[]]));
await secondsToReadAll(buffersAt(REFERENCE));
for (let round = 0; round < ROUNDS; round += 1)
  for (const place of PLACES) seconds.get(place)?.push(await secondsToReadAll(buffersAt(place)));
const reference = median(seconds.get(REFERENCE) ?? []);
for (const place of PLACES) {
  const own = median(seconds.get(place) ?? []);
  console.log(`  buffer ${String(place).padStart(4)} bytes into a page: ${own.toFixed(3)} s, ${(own / reference).toFixed(2)} x`);
}
