/** Checks one file by disklift and by qemu-img. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../src/common/errors.ts';
import { createLimiter } from '../../src/common/limiter.ts';
import { readQcow2Header } from '../../src/formats/chain/open-chain.ts';
import { checkImage } from '../../src/formats/check/check-image.ts';
import type { ImageProblem } from '../../src/formats/check/problems.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { nameLocalImage } from '../../src/sources/remote/local-folder.ts';
import { NEVER } from './image-in-process.ts';
import { runCommand } from './run-command.ts';

const OPTIONS = { libc: loadLibc(), readLimit: createLimiter(8) };

/** @returns the problems; a text where the image cannot be opened */
export async function checkByUs(path: string): Promise<readonly ImageProblem[] | string> {
  const { folder, path: name } = nameLocalImage(path, undefined, OPTIONS);
  try {
    const file = await folder.open(name, NEVER);
    return (await checkImage(file, await readQcow2Header(file, NEVER), NEVER)).kept;
  } catch (error) {
    assert.ok(error instanceof DiskliftError, error instanceof Error ? error.stack : String(error));
    return error.message;
  } finally {
    await folder.dispose();
  }
}

export interface QemuVerdict {
  /** 'refused': QEMU does not open the image. */
  verdict: 'clean' | 'corrupt' | 'leaks' | 'refused';
  text: string;
}

export async function checkByQemu(path: string): Promise<QemuVerdict> {
  const { code, stdout, stderr } = await runCommand('qemu-img', ['check', '-f', 'qcow2', path]);
  const verdict = ({ 0: 'clean', 2: 'corrupt', 3: 'leaks' } as const)[code as 0] ?? 'refused';
  return { verdict, text: `${stdout}${stderr}` };
}
