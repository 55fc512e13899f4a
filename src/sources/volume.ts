/** The disks on a volume: which there are, and where one lies. Nothing outside of the volume is ever opened. */

import type { Dirent } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError, errnoOf } from '../common/errors.ts';

/** KubeVirt's name for the one disk of a volume. */
const KUBEVIRT_DISK = 'disk.img';

/** What a file is called that holds a disk. */
const DISK_NAME = /\.(img|raw|qcow2|vmdk|vhdx|vhd|vdi|vpc)$/i;

/** The disk of a volume that is a block device: the volume itself. */
const WHOLE_VOLUME = '.';

/**
 * The disks of a volume, as paths beneath it: disk.img when it is there, as on KubeVirt's volumes, else every file at its
 * root that is named like a disk.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
 */
export async function findDisks(volumePath: string): Promise<string[]> {
  const entries = await entriesOf(volumePath);
  if (entries === 'block device') return [WHOLE_VOLUME];
  const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  if (files.includes(KUBEVIRT_DISK)) return [KUBEVIRT_DISK];
  const disks = files.filter((name) => DISK_NAME.test(name)).sort();
  if (disks.length === 0) throw new DiskliftError('SourceNotFound', `${volumePath}: no disk on the volume (disk.img, *.img, *.raw, ...)`);
  return disks;
}

async function entriesOf(volumePath: string): Promise<Dirent[] | 'block device'> {
  try {
    if ((await fs.stat(volumePath)).isBlockDevice()) return 'block device';
    return await fs.readdir(volumePath, { withFileTypes: true });
  } catch (error) {
    throw volumeError(volumePath, error);
  }
}

function volumeError(name: string, error: unknown): DiskliftError {
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return new DiskliftError('SourceNotFound', `${name}: not found`, error);
  if (errno === 'EACCES' || errno === 'EPERM') return new DiskliftError('SourcePermissionDenied', `${name}: permission denied`, error);
  return new DiskliftError('SourceReadError', `${name}: ${errno ?? String(error)}`, error);
}

/**
 * The path of a disk that a request has named. A symbolic link on the way could lead out of the volume, so none is followed.
 * @throws DiskliftError `InvalidRequest` for a path that leaves the volume, and as {@link findDisks}
 */
export async function diskPath(volumePath: string, relativePath: string): Promise<string> {
  if (relativePath === WHOLE_VOLUME) return volumePath;
  const parts = relativePath.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0')))
    throw new DiskliftError('InvalidRequest', `${JSON.stringify(relativePath)} is not a path beneath the volume`);
  let at = volumePath;
  for (const part of parts) {
    at = path.join(at, part);
    if (await isSymbolicLink(at)) throw new DiskliftError('InvalidRequest', `${at}: is a symbolic link, and might lead out of the volume`);
  }
  return at;
}

async function isSymbolicLink(name: string): Promise<boolean> {
  try {
    return (await fs.lstat(name)).isSymbolicLink();
  } catch (error) {
    throw volumeError(name, error);
  }
}

const QCOW2_MAGIC = Buffer.from('QFI\xfb', 'latin1');

/**
 * Whether a disk of format `Auto` is to be read as it is. disk.img is raw by KubeVirt's convention, and a block device
 * is what its guest has written: there a magic number may be the guest's own, planted to have another file opened.
 * @throws DiskliftError `FormatUnsupported`
 */
export async function requireRaw(name: string, relativePath: string): Promise<void> {
  if (relativePath === WHOLE_VOLUME || path.basename(relativePath) === KUBEVIRT_DISK) return;
  const isForeign = DISK_NAME.test(relativePath) && !/\.(img|raw)$/i.test(relativePath);
  if (isForeign || (await startsWith(name, QCOW2_MAGIC)))
    throw new DiskliftError(
      'FormatUnsupported',
      `${name}: not a raw disk, and only raw disks can be read so far; format: Raw takes it as it is`,
    );
}

async function startsWith(name: string, magic: Buffer): Promise<boolean> {
  try {
    await using handle = await fs.open(name, 'r');
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(magic.length), 0, magic.length, 0);
    return bytesRead === magic.length && buffer.equals(magic);
  } catch (error) {
    throw volumeError(name, error);
  }
}
