/** Finds the disks on a volume, and files that may be disks but are left out. */

import type { Dirent } from 'node:fs';
import fs from 'node:fs/promises';
import { DiskliftError } from '../common/errors.ts';
import type { Libc } from '../native/libc.ts';
import { createVolumeDirectory, openBeneath } from '../sources/open-beneath.ts';
import { openError } from '../sources/open-error.ts';
import { readUpTo } from '../sources/opened-file.ts';
import { classifyFile, KUBEVIRT_DISK } from './disk-names.ts';
import { PROBED_BYTES, probeFormat } from './probe-format.ts';
import { unreadableByBytes } from './unreadable-format.ts';

/** The disk of a volume that is a block device: the volume itself. */
export const WHOLE_VOLUME = '.';

export interface VolumeFiles {
  /** Paths beneath the volume. */
  disks: readonly string[];
  /** One sentence for each file that may be a disk and is not exported: its name, and why. */
  leftOut: readonly string[];
  /** One sentence for each file that is named like a disk but is none, or that cannot be checked. */
  remarks: readonly string[];
}

const HOW_TO_EXPORT = 'name it in spec.source.disks to export it';

/** Further files are not opened to check their content. */
const MAX_PROBED_COUNT = 256;

/** The boot signature of a raw disk's first sector (UEFI 2.10, 5.2.1). */
const BOOT_SIGNATURE = Buffer.from([0x55, 0xaa]);
const BOOT_SIGNATURE_AT = 510;

/**
 * Finds the disks of a volume, as paths beneath it: disk.img when it exists, as on KubeVirt's volumes. Otherwise every file at the root
 * that is named like a disk, except for parts of a VMDK among them and companions that hypervisors keep beside disks.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
 */
export async function findDisks(volumePath: string): Promise<string[]> {
  const entries = await entriesOf(volumePath);
  return entries === 'block device' ? [WHOLE_VOLUME] : sortOut(entries, volumePath).disks;
}

/**
 * As {@link findDisks}, and also reports files that are left out. Opens files without a known extension to check whether they begin like
 * a disk.
 * @throws DiskliftError as {@link findDisks}
 */
export async function lookAtVolume(volumePath: string, libc: Libc | undefined): Promise<VolumeFiles> {
  const entries = await entriesOf(volumePath);
  if (entries === 'block device') return { disks: [WHOLE_VOLUME], leftOut: [], remarks: [] };
  const { disks, leftOut, remarks, unknown } = sortOut(entries, volumePath);
  for (const name of unknown.slice(0, MAX_PROBED_COUNT)) {
    try {
      const found = await looksLike(volumePath, name, libc);
      if (found !== undefined) leftOut.push(`${name} looks like ${found}`);
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      remarks.push(`it is not known whether ${name} is a disk: ${error.message}`);
    }
  }
  if (unknown.length > MAX_PROBED_COUNT)
    remarks.push(`${unknown.length - MAX_PROBED_COUNT} other files were not looked into, from ${unknown[MAX_PROBED_COUNT]} on`);
  return { disks, leftOut, remarks };
}

interface SortedFiles {
  disks: string[];
  leftOut: string[];
  remarks: string[];
  unknown: string[];
}

function sortOut(entries: readonly Dirent[], volumePath: string): SortedFiles {
  const names = new Set(entries.filter((entry) => entry.isFile()).map(({ name }) => name));
  const hasKubevirtDisk = names.has(KUBEVIRT_DISK);
  const sorted: SortedFiles = { disks: [], leftOut: [], remarks: [], unknown: [] };
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const { name } = entry;
    const file = classifyFile(name, (other) => names.has(other));
    if (entry.isDirectory() || file.kind === 'part') continue;
    if (file.kind === 'unreadable') sorted.leftOut.push(`${name} ${file.why}`);
    else if (file.kind === 'companion' && file.what !== undefined) sorted.remarks.push(`${name} is not exported: it is ${file.what}`);
    else if (file.kind === 'disk' && !entry.isFile())
      sorted.leftOut.push(`${name} is no regular file, and links are not followed; name the file that it leads to in spec.source.disks`);
    else if (file.kind === 'disk' && hasKubevirtDisk && name !== KUBEVIRT_DISK)
      sorted.leftOut.push(`${name} lies beside ${KUBEVIRT_DISK}; ${HOW_TO_EXPORT}`);
    else if (file.kind === 'disk') sorted.disks.push(name);
    else if (file.kind === 'unknown' && entry.isFile()) sorted.unknown.push(name);
  }
  if (sorted.disks.length > 0) return sorted;
  const others = sorted.leftOut.length === 0 ? '' : `; left out: ${sorted.leftOut.join('; ')}`;
  throw new DiskliftError('SourceNotFound', `${volumePath}: no disk on the volume (disk.img, *.img, *.raw, ...)${others}`);
}

/** @returns the end of a sentence, with advice @throws DiskliftError as {@link openBeneath}; `SourceReadError` */
async function looksLike(volumePath: string, relativePath: string, libc: Libc | undefined): Promise<string | undefined> {
  await using handle = await openBeneath(libc, { volume: createVolumeDirectory(volumePath), relativePath });
  const head = await readUpTo({ handle, name: relativePath }, 0, PROBED_BYTES);
  const unreadable = unreadableByBytes(head);
  if (unreadable?.holds === 'disk') return `${unreadable.what}, which is not read here; ${unreadable.advice}`;
  const format = probeFormat(head);
  const isRaw = BOOT_SIGNATURE.equals(head.subarray(BOOT_SIGNATURE_AT));
  const readable = format !== undefined ? `an image of format ${format}` : isRaw ? 'a raw disk' : undefined;
  return readable === undefined ? undefined : `${readable}, and is not named like one; ${HOW_TO_EXPORT}`;
}

async function entriesOf(volumePath: string): Promise<Dirent[] | 'block device'> {
  try {
    if ((await fs.stat(volumePath)).isBlockDevice()) return 'block device';
    return await fs.readdir(volumePath, { withFileTypes: true });
  } catch (error) {
    throw openError(volumePath, error, { missing: 'not found' });
  }
}
