/** qemu-img, which checks the images that disklift writes. */

import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { runCommand } from './run-command.ts';

interface CheckReport {
  'image-end-offset': number;
  'check-errors': number;
  leaks?: number;
  corruptions?: number;
}

/**
 * Asserts that an image is clean, that nothing lies behind its last used cluster (which `check` alone does not see),
 * and that its content is the disk's.
 */
export async function assertImageOf(imagePath: string, diskPath: string): Promise<void> {
  const check = await runCommand('qemu-img', ['check', '--output=json', '-f', 'qcow2', imagePath]);
  assert.equal(check.code, 0, `qemu-img check ${imagePath}: ${check.stdout}${check.stderr}`);
  const report = JSON.parse(check.stdout.toString()) as CheckReport;
  assert.deepEqual([report['check-errors'], report.leaks ?? 0, report.corruptions ?? 0], [0, 0, 0]);
  assert.equal(report['image-end-offset'], (await stat(imagePath)).size, 'the image ends where its last cluster ends');
  await assertSameContent(imagePath, diskPath);
}

/** `qemu-img compare` accepts a shorter disk as equal when the rest is zeros, so sizes are compared as well. */
async function assertSameContent(imagePath: string, diskPath: string): Promise<void> {
  const compare = await runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', diskPath, imagePath]);
  assert.equal(compare.code, 0, `qemu-img compare: ${compare.stdout}${compare.stderr}`);
  const info = await runCommand('qemu-img', ['info', '--output=json', imagePath]);
  const { 'virtual-size': virtualSizeBytes } = JSON.parse(info.stdout.toString()) as { 'virtual-size': number };
  assert.equal(virtualSizeBytes, Math.ceil((await stat(diskPath)).size / 512) * 512);
}
