/** The file disk.img on a volume of KubeVirt. */

import { chmod, chown } from 'node:fs/promises';
import path from 'node:path';
import { createDisk } from './sparse-disk.ts';

/** The user and the group of QEMU in KubeVirt. */
export const QEMU_USER = 107;

const MIB = 1024 * 1024;

/**
 * A disk of 64 MiB with data, holes and written zeros in a folder that stands for the volume.
 * @param tailBytes of its last data, at most 23 MiB
 */
export async function createKubeVirtDisk(volume: string, tailBytes = 100_000): Promise<string> {
  const disk = await createDisk(path.join(volume, 'disk.img'), 64 * MIB, [
    { offsetBytes: 0, lengthBytes: 3 * MIB, content: 'random' },
    { offsetBytes: 8 * MIB, lengthBytes: 2 * MIB, content: 'zeros' },
    { offsetBytes: 40 * MIB + 4096, lengthBytes: tailBytes, content: 'random' },
  ]);
  await chown(disk, QEMU_USER, QEMU_USER);
  await chmod(disk, 0o660);
  await chmod(volume, 0o755);
  return disk;
}
