/** The disks that are measured, built once and kept. */

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, statfsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createRandom } from '../test/helpers/seed.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const NEEDED_BYTES = 8 * GIB;

export const BENCH_DIR = process.env.DISKLIFT_BENCH_DIR ?? path.join(os.tmpdir(), 'disklift-bench');

/** Regions of the mixed disk: 64 MiB of data, 32 MiB of written zeros, a hole. 32 of them are 2, 1 and 5 GiB. */
export const REGION = { count: 32, sizeBytes: 256 * MIB, dataBytes: 64 * MIB, zeroBytes: 32 * MIB };

/** 1.5 GiB in 4,000 pieces. */
const PIECE = { count: 4000, sizeBytes: 393_216, seed: 20_261_124 };

async function fillMixed(file: FileHandle): Promise<void> {
  await file.truncate(REGION.count * REGION.sizeBytes);
  const data = randomBytes(REGION.dataBytes);
  const zeros = Buffer.alloc(REGION.zeroBytes);
  for (let region = 0; region < REGION.count; region += 1) {
    data.writeUInt32LE(region + 1);
    await file.write(data, 0, data.length, region * REGION.sizeBytes);
    await file.write(zeros, 0, zeros.length, region * REGION.sizeBytes + data.length);
  }
}

async function fillScattered(file: FileHandle): Promise<void> {
  await file.truncate(8 * 1024 * GIB);
  const random = createRandom(PIECE.seed);
  const data = randomBytes(PIECE.sizeBytes);
  const places = (8 * 1024 * GIB - PIECE.sizeBytes) / 4096;
  for (let piece = 0; piece < PIECE.count; piece += 1) await file.write(data, 0, data.length, Math.floor(random() * places) * 4096);
}

const FILL = {
  mixed: fillMixed,
  scattered: fillScattered,
  empty: (file: FileHandle) => file.truncate(1024 * GIB),
};

/** @returns the path of a disk, which is built if it does not exist. */
export async function benchDisk(name: keyof typeof FILL): Promise<string> {
  mkdirSync(BENCH_DIR, { recursive: true });
  const disk = path.join(BENCH_DIR, `${name}.img`);
  if (existsSync(disk)) return disk;
  const { bavail, bsize } = statfsSync(BENCH_DIR);
  if (bavail * bsize < NEEDED_BYTES)
    throw new Error(`${BENCH_DIR} needs ${NEEDED_BYTES / GIB} GiB free; name another place by DISKLIFT_BENCH_DIR`);
  console.log(`building ${disk}`);
  const file = await open(`${disk}.part`, 'w');
  await FILL[name](file);
  await file.sync();
  await file.close();
  renameSync(`${disk}.part`, disk);
  return disk;
}
