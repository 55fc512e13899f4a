/** The disks on a volume: which there are. */

import type { Dirent } from 'node:fs';
import fs from 'node:fs/promises';
import { DiskliftError } from '../common/errors.ts';
import { openError } from './open-error.ts';
import { vmdkPartOf } from './vmdk-part-name.ts';

/** KubeVirt's name for the one disk of a volume. */
export const KUBEVIRT_DISK = 'disk.img';

/** What a file is called that holds a disk. */
const DISK_NAME = /\.(img|raw|qcow2|vmdk|vhdx|vhd|vdi|vpc)$/i;

/** The disk of a volume that is a block device: the volume itself. */
export const WHOLE_VOLUME = '.';

/**
 * The disks of a volume, as paths beneath it: disk.img when it is there, as on KubeVirt's volumes, else every file at its
 * root that is named like a disk, but for the parts of a VMDK that is among them.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
 */
export async function findDisks(volumePath: string): Promise<string[]> {
  const entries = await entriesOf(volumePath);
  if (entries === 'block device') return [WHOLE_VOLUME];
  const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  if (files.includes(KUBEVIRT_DISK)) return [KUBEVIRT_DISK];
  const isPart = (name: string) => files.includes(vmdkPartOf(name)?.descriptorName ?? '');
  const disks = files.filter((name) => DISK_NAME.test(name) && !isPart(name)).sort();
  if (disks.length === 0) throw new DiskliftError('SourceNotFound', `${volumePath}: no disk on the volume (disk.img, *.img, *.raw, ...)`);
  return disks;
}

async function entriesOf(volumePath: string): Promise<Dirent[] | 'block device'> {
  try {
    if ((await fs.stat(volumePath)).isBlockDevice()) return 'block device';
    return await fs.readdir(volumePath, { withFileTypes: true });
  } catch (error) {
    throw openError(volumePath, error, { missing: 'not found' });
  }
}
