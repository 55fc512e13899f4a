/** `make demo`: a disk with a file system, a hole and written zeros becomes qcow2, and qemu-img proves it. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..', '..');
const MIB = 1024 * 1024;
const FILE_SYSTEM_BYTES = 256 * MIB;
const ZEROS = { offsetBytes: 512 * MIB, lengthBytes: 128 * MIB };
const DISK_BYTES = 1024 * MIB;

const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-demo-'));
const disk = path.join(directory, 'disk.img');
const image = path.join(directory, 'disk.qcow2');

function createDisk(): void {
  const files = path.join(directory, 'files');
  mkdirSync(files);
  cpSync(path.join(ROOT, 'src'), path.join(files, 'src'), { recursive: true });
  writeFileSync(path.join(files, 'database'), randomBytes(96 * MIB));
  writeFileSync(disk, '');
  truncateSync(disk, FILE_SYSTEM_BYTES);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', files, disk], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } });
  truncateSync(disk, DISK_BYTES);
  const descriptor = openSync(disk, 'r+');
  const zeros = Buffer.alloc(MIB);
  for (let done = 0; done < ZEROS.lengthBytes; done += MIB) writeSync(descriptor, zeros, 0, MIB, ZEROS.offsetBytes + done);
}

function show(line: string): void {
  console.log(`$ ${line}`);
  const shown = line.replace(/^disklift/, `'${process.execPath}' '${path.join(ROOT, 'src', 'bin.ts')}'`);
  execFileSync('bash', ['-o', 'pipefail', '-c', shown], { cwd: directory, stdio: ['ignore', 'inherit', 'inherit'] });
}

try {
  console.log('A disk of 1 GiB: an ext4 file system with files in the first 256 MiB, 128 MiB of written zeros, the rest a hole.\n');
  createDisk();
  show('disklift measure disk.img');
  const startMs = performance.now();
  show('disklift stream disk.img | cat > disk.qcow2');
  const seconds = (performance.now() - startMs) / 1000;
  console.log(`${statSync(image).size} bytes arrived in ${seconds.toFixed(2)} s\n`);
  show('qemu-img check disk.qcow2');
  show('qemu-img compare -f raw -F qcow2 disk.img disk.qcow2');
} finally {
  rmSync(directory, { recursive: true, force: true });
}
