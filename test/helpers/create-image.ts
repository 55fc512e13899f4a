/** Images of every kind, made by qemu-img. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { runCommand } from './run-command.ts';

export interface ImageToCreate {
  format: string;
  /** `name=value`, as for -o. */
  options?: readonly string[];
  /** In qemu-img's notation; by default the size of the backing file. */
  size?: string;
  /** A backing file of this name, which need not exist when there is a size. */
  backing?: { name: string; format: string };
}

/** Uses the image's directory as working directory, because VMDKs and qcow2 images name other files relative to it. */
export async function createImage(imagePath: string, { format, options = [], size, backing }: ImageToCreate): Promise<void> {
  const parameters = [
    ...['create', '-q', '-f', format],
    ...(options.length === 0 ? [] : ['-o', options.join(',')]),
    ...(backing === undefined ? [] : ['-b', backing.name, '-F', backing.format]),
    ...(backing !== undefined && size !== undefined ? ['-u'] : []),
    path.basename(imagePath),
    ...(size === undefined ? [] : [size]),
  ];
  const { code, stderr } = await runCommand('qemu-img', parameters, { cwd: path.dirname(imagePath) });
  assert.equal(code, 0, `qemu-img ${parameters.join(' ')}: ${stderr}`);
}
