/** Classifies a file on a volume by its name: a disk, a hypervisor's companion of a disk, or a disk that cannot be read. Pure. */

import path from 'node:path';
import { type UnreadableFormat, unreadableByName } from './unreadable-format.ts';
import { vmdkPartOf } from './vmdk/vmdk-part-name.ts';

/** Name that KubeVirt gives the only disk of a volume. */
export const KUBEVIRT_DISK = 'disk.img';

/** Output of dd(1): a disk where somebody has compressed it. Alone, its bytes decide. */
const PACKED_DISK = /\.dd$/i;

const DISK = /\.(img|raw|qcow2|vmdk|vhdx|vhd|vdi|vpc)$/i;

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

export type FileOnVolume =
  | { kind: 'disk' }
  /** Part of a disk that another file of the volume describes. */
  | { kind: 'part' }
  /** `what` is left out where the name does not look like a disk's. */
  | { kind: 'companion'; what?: string }
  | { kind: 'unreadable'; why: string }
  /** Only its bytes can show whether it is a disk. */
  | { kind: 'unknown' };

/** @param isThere whether a file of that name lies in the same directory */
export function classifyFile(name: string, isThere: (name: string) => boolean): FileOnVolume {
  const part = vmdkPartOf(name);
  if (part !== undefined && isThere(part.descriptorName)) return { kind: 'part' };
  const unreadable = unreadableDisk(name);
  if (unreadable !== undefined) return { kind: 'unreadable', why: `is ${unreadable.what}, which is not read here; ${unreadable.advice}` };
  if (name === KUBEVIRT_DISK) return { kind: 'disk' };
  const companion = NAMED_LIKE_DISKS.find(([pattern]) => pattern.test(name));
  if (companion !== undefined) return { kind: 'companion', ...(DISK.test(name) ? { what: companion[1] } : {}) };
  if (DISK.test(name)) return { kind: 'disk' };
  return { kind: COMPANION.test(name) ? 'companion' : 'unknown' };
}

/** @returns undefined for a compressed file whose name does not say that a disk is in it */
function unreadableDisk(name: string): UnreadableFormat | undefined {
  const { ext, name: inner } = path.parse(name);
  const unreadable = unreadableByName(ext);
  if (unreadable?.holds !== 'file') return unreadable;
  return DISK.test(inner) || PACKED_DISK.test(inner) || unreadableDisk(inner) !== undefined ? unreadable : undefined;
}
