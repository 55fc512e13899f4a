/** Opening qcow2 images without QEMU. */

import path from 'node:path';
import { createSemaphore } from '../../src/common/semaphore.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { openPlainQcow2, type PlainDisk } from '../../src/sources/qcow2/open-plain-qcow2.ts';
import { NEVER } from './image-in-process.ts';
import { openTree } from './image-tree.ts';

export interface OpenedPlainDisk extends AsyncDisposable {
  /** Undefined where QEMU has to read it. */
  disk: PlainDisk | undefined;
}

export async function openPlainDisk(imagePath: string, libc = loadLibc()): Promise<OpenedPlainDisk> {
  const tree = await openTree({ volumePath: path.dirname(imagePath), relativePath: path.basename(imagePath), format: 'qcow2' });
  const dispose = () => tree[Symbol.asyncDispose]();
  try {
    const disk = await openPlainQcow2(tree.root, { libc, readLimit: createSemaphore(4), signal: NEVER });
    return { disk, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** All that the disk holds, read in pieces of `pieceBytes`. */
export async function readDisk(disk: Pick<PlainDisk, 'sizeBytes' | 'read'>, pieceBytes = 1_000_003): Promise<Buffer> {
  const content = Buffer.alloc(disk.sizeBytes, 0xee);
  for (let at = 0; at < disk.sizeBytes; at += pieceBytes)
    await disk.read(content.subarray(at, Math.min(disk.sizeBytes, at + pieceBytes)), at, NEVER);
  return content;
}
