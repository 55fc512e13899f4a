/** The demo's volume: a disk with a file system, a hole and written zeros, and a smaller one. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..', '..');
const MIB = 1024 * 1024;
const FILE_SYSTEM_BYTES = 256 * MIB;
const ZEROS = { offsetBytes: 512 * MIB, lengthBytes: 128 * MIB };
const DISK_BYTES = 1024 * MIB;
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

function makeFileSystem(disk: string, sizeBytes: number, fileBytes: number): void {
  const files = `${disk}.files`;
  mkdirSync(files);
  cpSync(path.join(ROOT, 'src'), path.join(files, 'src'), { recursive: true });
  writeFileSync(path.join(files, 'database'), randomBytes(fileBytes));
  writeFileSync(disk, '');
  truncateSync(disk, sizeBytes);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', files, disk], { env: { ...process.env, PATH } });
  rmSync(files, { recursive: true });
}

export function buildVolume(volume: string): void {
  mkdirSync(volume);
  const [system, data] = [path.join(volume, 'system.img'), path.join(volume, 'data.img')];
  makeFileSystem(system, FILE_SYSTEM_BYTES, 96 * MIB);
  truncateSync(system, DISK_BYTES);
  const descriptor = openSync(system, 'r+');
  const zeros = Buffer.alloc(MIB);
  for (let done = 0; done < ZEROS.lengthBytes; done += MIB) writeSync(descriptor, zeros, 0, MIB, ZEROS.offsetBytes + done);
  makeFileSystem(data, 64 * MIB, 8 * MIB);
}
