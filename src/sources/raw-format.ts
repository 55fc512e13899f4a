/** Whether a file on a volume may be read as it is. */

import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import { readError } from './read-exactly.ts';
import { DISK_NAME, KUBEVIRT_DISK } from './volume.ts';

const QCOW2_MAGIC = Buffer.from('QFI\xfb', 'latin1');

/**
 * For a disk of format `Auto`. disk.img is raw by KubeVirt's convention, and so is a block device: there a magic number may
 * be the guest's own, planted to have another file opened.
 * @param name the path of the file that `handle` has open
 * @throws DiskliftError `FormatUnsupported`, `SourceReadError`
 */
export async function requireRaw(handle: FileHandle, name: string): Promise<void> {
  if (path.basename(name) === KUBEVIRT_DISK) return;
  const isForeign = DISK_NAME.test(name) && !/\.(img|raw)$/i.test(name);
  if (isForeign || (await startsWith(handle, name, QCOW2_MAGIC)))
    throw new DiskliftError(
      'FormatUnsupported',
      `${name}: not a raw disk, and only raw disks can be read so far; format: Raw takes it as it is`,
    );
}

async function startsWith(handle: FileHandle, name: string, magic: Buffer): Promise<boolean> {
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(magic.length), 0, magic.length, 0);
    return bytesRead === magic.length && buffer.equals(magic);
  } catch (error) {
    throw readError(name, 0, error);
  }
}
