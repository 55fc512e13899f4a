/** Finds the disks on a volume, also by a pattern of paths, and files that may be disks but are left out. */

import type { Dirent } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import type { Libc } from '../native/libc.ts';
import { createVolumeDirectory, openBeneath } from '../sources/open-beneath.ts';
import { openError } from '../sources/open-error.ts';
import { readUpTo } from '../sources/opened-file.ts';
import { KUBEVIRT_DISK } from './choose-format.ts';
import { PROBED_BYTES } from './format.ts';
import { DISK_FORMATS, FORMATS, formatOfBytes, partOf, type UnreadableFormat, unreadableByBytes, unreadableByName } from './formats.ts';

/** The disk of a volume that is a block device: the volume itself. */
export const WHOLE_VOLUME = '.';

export interface VolumeFiles {
  /** Paths beneath the volume. */
  disks: readonly string[];
  /** One sentence for each file that may be a disk and is not exported: its name, and why. */
  leftOut: readonly string[];
  /** One sentence for each file that is named like a disk but is not one, or that cannot be checked. */
  remarks: readonly string[];
}

const HOW_TO_EXPORT = 'name it in spec.source.disks to export it';

/** Further files are not opened to check their content. */
const MAX_PROBED_COUNT = 256;

/** The boot signature of a raw disk's first sector (UEFI 2.10, 5.2.1). */
const BOOT_SIGNATURE = Buffer.from([0x55, 0xaa]);
const BOOT_SIGNATURE_AT = 510;

/**
 * Finds the disks of a volume, as paths beneath it: disk.img when it exists, as on KubeVirt's volumes; otherwise every
 * file at the root that is named like a disk. Parts of a VMDK and hypervisors' companions of disks are not disks.
 * Files without a known extension are opened to check whether they begin like a disk, and reported as left out then.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
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
  const format = formatOfBytes(head);
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

/** Output of dd(1): a disk inside a compressed file. Uncompressed, the bytes of such a file decide. */
const PACKED_DISK = /\.dd$/i;

const DISK_EXTENSIONS = DISK_FORMATS.flatMap((name) => FORMATS[name].extensions);

function isNamedLikeDisk(fileName: string): boolean {
  const inLowerCase = fileName.toLowerCase();
  return DISK_EXTENSIONS.some((extension) => inLowerCase.endsWith(extension));
}

/** Companions that are named like disks, with a description. */
const NAMED_LIKE_DISKS: readonly (readonly [RegExp, string])[] = [
  [/-ctk\.vmdk$/i, 'the list of changed blocks that VMware keeps of a disk'],
  [/-digest\.vmdk$/i, 'the hashes that VMware keeps of a disk'],
  [/-pt\.vmdk$/i, "the partition table that VirtualBox keeps of a host's disk"],
  [/^\._/, 'attributes of a file that macOS has copied'],
  [/^vm-\d+-state-.*\.raw$/i, 'the memory of a VM that Proxmox VE has saved'],
  [/^(ovmf|aavmf|edk2)[-_.].*\.(fd|img|raw|qcow2)$/i, "a VM's firmware or its variables"],
  [/_VARS([-_.]\w+)?\.(fd|img|raw|qcow2)$/, "the variables of a VM's firmware"],
];

/** Other files that hypervisors, their tools and people keep beside disks. */
const COMPANION = new RegExp(
  `\\.(${[
    ...['vmx', 'vmxf', 'vmtx', 'nvram', 'vmsd', 'vmsn', 'vmss', 'vmem', 'vswp', 'lck', 'log', 'scoreboard', 'hlog', 'plist'],
    ...['vbox', 'vbox-prev', 'vbox-tmp', 'vbox-extpack', 'sav'],
    ...['vmcx', 'vmrs', 'vmgs', 'vsv', 'xml', 'mrt', 'rct'],
    ...['ovf', 'mf', 'cert', 'pem', 'iso', 'fd', 'flp', 'vfd', 'pid', 'sock', 'lock', 'permall', 'conf', 'cfg'],
    ...['sha1', 'sha256', 'sha512', 'md5', 'sum', 'asc', 'sig', 'txt', 'md', 'json', 'ya?ml', 'blocks', 'meta', 'lease'],
  ].join('|')})$`,
  'i',
);

type FileOnVolume =
  | { kind: 'disk' }
  /** Part of a disk that another file of the volume describes. */
  | { kind: 'part' }
  /** `what` is left out where the name does not look like a disk's. */
  | { kind: 'companion'; what?: string }
  | { kind: 'unreadable'; why: string }
  /** Only its bytes can show whether it is a disk. */
  | { kind: 'unknown' };

/** @param isThere whether a file of that name lies in the same directory */
function classifyFile(name: string, isThere: (name: string) => boolean): FileOnVolume {
  const part = partOf(name);
  if (part !== undefined && isThere(part.descriptorName)) return { kind: 'part' };
  const unreadable = unreadableDisk(name);
  if (unreadable !== undefined) return { kind: 'unreadable', why: `is ${unreadable.what}, which is not read here; ${unreadable.advice}` };
  if (name === KUBEVIRT_DISK) return { kind: 'disk' };
  const companion = NAMED_LIKE_DISKS.find(([pattern]) => pattern.test(name));
  if (companion !== undefined) return { kind: 'companion', ...(isNamedLikeDisk(name) ? { what: companion[1] } : {}) };
  if (isNamedLikeDisk(name)) return { kind: 'disk' };
  return { kind: COMPANION.test(name) ? 'companion' : 'unknown' };
}

/** @returns undefined for a compressed file whose name does not say that a disk is in it */
function unreadableDisk(name: string): UnreadableFormat | undefined {
  const { ext, name: inner } = path.parse(name);
  const unreadable = unreadableByName(ext);
  if (unreadable?.holds !== 'file') return unreadable;
  return isNamedLikeDisk(inner) || PACKED_DISK.test(inner) || unreadableDisk(inner) !== undefined ? unreadable : undefined;
}

export function isPattern(relativePath: string): boolean {
  return relativePath.includes('*');
}

/**
 * Finds the files of a volume whose paths match a pattern.
 * @param pattern relative to the volume; a `*` stands for any characters of one name except a leading dot, as in a
 * shell
 * @returns sorted paths of regular files beneath the volume; follows no link
 * @throws DiskliftError `SourceNotFound` where no file matches, `SourcePermissionDenied`, `SourceReadError`
 */
export async function matchDisks(volumePath: string, pattern: string): Promise<string[]> {
  let directories = [''];
  const parts = pattern.split('/');
  const files: string[] = [];
  for (const [index, part] of parts.entries()) {
    const isLast = index === parts.length - 1;
    const fits = expressionOf(part);
    const found: string[] = [];
    for (const directory of directories)
      for (const entry of await entriesIn(path.join(volumePath, directory)))
        if (fits.test(entry.name) && (isLast ? entry.isFile() : entry.isDirectory())) found.push(path.posix.join(directory, entry.name));
    if (isLast) files.push(...found);
    else directories = found;
  }
  if (files.length > 0) return files.sort();
  throw new DiskliftError('SourceNotFound', `${volumePath}: no file fits ${JSON.stringify(pattern)}; links are not followed`);
}

function expressionOf(part: string): RegExp {
  const escaped = part
    .split('*')
    .map((text) => text.replace(/[\\^$.+?()[\]{}|]/g, '\\$&'))
    .join('.*');
  return new RegExp(`^${part.startsWith('*') ? '(?!\\.)' : ''}${escaped}$`, 's');
}

async function entriesIn(directory: string) {
  try {
    return await fs.readdir(directory, { withFileTypes: true });
  } catch (error) {
    throw openError(directory, error, { missing: 'not found' });
  }
}
